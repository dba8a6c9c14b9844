//! A conversation in the form that Bedrock's Converse and Anthropic's Messages require
//! (contract::providers §d1.20): separate system texts, alternating turns, tool results in the
//! user's turn, no empty text.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::unsupported_field;
use crate::error::GatewayError;
use crate::generation::{Generation, Part, Role};

/// Conversation of alternating turns.
pub(super) struct Conversation<'a> {
    /// System texts and cache points in order, from all positions.
    pub(super) system: Vec<&'a Part>,
    /// Turns, alternately of the user's side and of the model.
    pub(super) turns: Vec<ConversationTurn<'a>>,
}

/// Consecutive messages of one side.
pub(super) struct ConversationTurn<'a> {
    /// Whether the turn is the model's; otherwise it is the user's side's.
    pub(super) is_assistant: bool,
    /// Content of the turn, never empty.
    pub(super) blocks: Vec<TurnBlock<'a>>,
}

/// Part of a turn.
pub(super) enum TurnBlock<'a> {
    /// Part of a message, except blank text.
    Part(&'a Part),
    /// Text that was trimmed.
    Text(&'a str),
}

impl<'a> Conversation<'a> {
    /// Groups the messages of a generation into turns. Blank texts are omitted, since both
    /// providers refuse them, and so are turns that have nothing else.
    pub(super) fn of(generation: &'a Generation) -> Self {
        let mut conversation = Self { system: Vec::new(), turns: Vec::new() };
        for message in &generation.messages {
            if message.role == Role::System {
                message.parts.iter().for_each(|part| match part {
                    Part::Text(text) if !is_blank(text) => conversation.system.push(part),
                    Part::CachePoint { .. } if !conversation.system.is_empty() => {
                        conversation.system.push(part)
                    }
                    _ => {}
                });
                continue;
            }
            let is_assistant = message.role == Role::Assistant;
            if conversation.turns.last().is_none_or(|last| last.is_assistant != is_assistant) {
                conversation.turns.push(ConversationTurn { is_assistant, blocks: Vec::new() });
            }
            let Some(turn) = conversation.turns.last_mut() else { continue };
            message.parts.iter().for_each(|part| match part {
                Part::Text(text) if is_blank(text) => {}
                // there is no block that it could mark
                Part::CachePoint { .. } if turn.blocks.is_empty() => {}
                _ => turn.blocks.push(TurnBlock::Part(part)),
            });
            // a turn of blank text would separate two turns of the other side
            if conversation.turns.last().is_some_and(|turn| turn.blocks.is_empty()) {
                conversation.turns.pop();
            }
        }
        conversation.trim_prefill();
        for turn in conversation.turns.iter_mut().filter(|turn| !turn.is_assistant) {
            // Both require the results of calls before anything else.
            turn.blocks
                .sort_by_key(|block| !matches!(block, TurnBlock::Part(Part::ToolResult { .. })));
        }
        conversation
    }

    /// Trims the end of a last turn by the model, which is a prefill that the model continues: both
    /// providers refuse white space there.
    fn trim_prefill(&mut self) {
        let Some(last) = self.turns.last_mut().filter(|turn| turn.is_assistant) else { return };
        if let Some(block @ TurnBlock::Part(Part::Text(_))) = last.blocks.last_mut()
            && let TurnBlock::Part(Part::Text(text)) = block
        {
            *block = TurnBlock::Text(text.trim_end());
        }
    }

    /// Returns whether the conversation has calls or results of calls.
    pub(super) fn has_tool_history(&self) -> bool {
        let is_tool = |block: &TurnBlock<'_>| {
            matches!(block, TurnBlock::Part(Part::ToolCall(_) | Part::ToolResult { .. }))
        };
        self.turns.iter().any(|turn| turn.blocks.iter().any(is_tool))
    }

    /// Returns the names of the functions that were called: both providers require tool definitions
    /// whenever the history has calls, even if the request defines none
    /// (contract::providers §d1.19).
    pub(super) fn called_functions(&self) -> BTreeSet<&'a str> {
        let blocks = self.turns.iter().flat_map(|turn| &turn.blocks);
        let mut called: BTreeSet<&str> = blocks
            .filter_map(|block| match block {
                TurnBlock::Part(Part::ToolCall(call)) => Some(call.name.as_str()),
                TurnBlock::Part(_) | TurnBlock::Text(_) => None,
            })
            .collect();
        // results without their calls are an error of the provider's, which requires a tool as well
        if called.is_empty() {
            called.insert("unknown");
        }
        called
    }
}

/// System text that replaces `json_object`: neither provider enforces JSON without a schema.
pub(super) const JSON_OBJECT: &str = "Answer with one JSON object and nothing before or after it.";

/// Returns the schema of a function's parameters; an empty object when it has none, not null.
pub(super) fn parameters_schema(parameters: &Value) -> Value {
    if parameters.is_object() { parameters.clone() } else { json!({"type": "object"}) }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Returns the text of a result, never empty: both providers refuse an empty one.
pub(super) fn tool_result_text(content: &str) -> Cow<'_, str> {
    if is_blank(content) { Cow::Borrowed("(no output)") } else { Cow::Borrowed(content) }
}

/// Parses the arguments of a call as the object that both providers require; a blank text is `{}`.
/// Fails on anything but an object.
pub(super) fn parse_arguments(
    text: &str,
    provider: &str,
) -> Result<Map<String, Value>, GatewayError> {
    if is_blank(text) {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|_| {
        unsupported_field(
            "messages",
            provider,
            "takes a JSON object as the arguments of a tool call",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Conversation, TurnBlock, parse_arguments};
    use crate::generation::{Generation, Message, Part, Role, ToolCall};

    fn shape(messages: Vec<Message>) -> (Vec<String>, String) {
        let generation = Generation { messages, ..Generation::default() };
        let conversation = Conversation::of(&generation);
        let block = |block: &TurnBlock<'_>| match block {
            TurnBlock::Part(Part::Text(text)) => text.clone(),
            TurnBlock::Text(text) => (*text).to_owned(),
            TurnBlock::Part(Part::CachePoint { .. }) => "cache".to_owned(),
            TurnBlock::Part(Part::ToolCall(call)) => format!("call {}", call.id),
            TurnBlock::Part(Part::ToolResult { id, .. }) => format!("result {id}"),
            TurnBlock::Part(_) => "?".to_owned(),
        };
        let turn = |turn: &super::ConversationTurn<'_>| {
            let blocks: Vec<String> = turn.blocks.iter().map(block).collect();
            format!("{}[{}]", if turn.is_assistant { "model" } else { "user" }, blocks.join("|"))
        };
        let turns: Vec<String> = conversation.turns.iter().map(turn).collect();
        let system = conversation.system.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            _ => "cache".to_owned(),
        });
        (system.collect(), turns.join(" "))
    }

    fn call(id: &str) -> Part {
        Part::ToolCall(ToolCall { id: id.into(), name: "f".into(), arguments: String::new() })
    }

    fn result(id: &str) -> Message {
        Message {
            role: Role::Tool,
            parts: vec![Part::ToolResult { id: id.into(), content: "ok".into(), is_error: false }],
        }
    }

    #[test]
    fn turns_alternate_and_system_texts_are_separate() {
        let (system, turns) = shape(vec![
            Message::text(Role::System, "be brief"),
            Message::text(Role::User, "a"),
            Message::text(Role::User, "b"),
            Message::text(Role::Assistant, " \n"),
            Message::text(Role::User, "c"),
            Message::text(Role::System, " "),
            Message::text(Role::Assistant, "Thought: "),
        ]);
        assert_eq!(system, ["be brief"]);
        assert_eq!(turns, "user[a|b|c] model[Thought:]");
    }

    #[test]
    fn tool_results_are_merged_into_one_user_turn_and_come_first() {
        let (_, turns) = shape(vec![
            Message::text(Role::User, "go"),
            Message {
                role: Role::Assistant,
                parts: vec![Part::Text("ok".into()), call("1"), call("2")],
            },
            result("1"),
            Message::text(Role::User, "and"),
            result("2"),
        ]);
        assert_eq!(turns, "user[go] model[ok|call 1|call 2] user[result 1|result 2|and]");
    }

    #[test]
    fn cache_points_follow_the_cached_part() {
        let cache = || Part::CachePoint { ttl: None };
        let with = |role, mut parts: Vec<Part>| {
            parts.push(cache());
            Message { role, parts }
        };
        let (system, turns) = shape(vec![
            with(Role::System, vec![Part::Text(" ".into())]),
            with(Role::System, vec![Part::Text("brief".into())]),
            with(Role::User, vec![Part::Text(" ".into())]),
            with(Role::User, vec![Part::Text("a".into())]),
        ]);
        assert_eq!(system, ["brief", "cache"]);
        assert_eq!(turns, "user[a|cache]");
    }

    #[test]
    fn arguments_are_an_object() {
        assert!(parse_arguments("", "P").unwrap().is_empty());
        assert_eq!(parse_arguments("{\"a\":1}", "P").unwrap()["a"], 1);
        assert!(parse_arguments("[1]", "P").is_err() && parse_arguments("{\"a\":", "P").is_err());
    }
}
