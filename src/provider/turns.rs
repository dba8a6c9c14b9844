//! A conversation as Bedrock's Converse and Anthropic's Messages want it (providers.md d1.20):
//! system texts apart, turns that alternate, tool results in the user's turn, no empty text.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::untranslatable;
use crate::error::GatewayError;
use crate::generation::{Generation, Part, Role};

/// The conversation.
pub(super) struct Conversation<'a> {
    /// System texts and cache points in order, wherever they stood.
    pub(super) system: Vec<&'a Part>,
    /// Turns; neighbours differ in who speaks.
    pub(super) turns: Vec<Turn<'a>>,
}

/// What one side says before the other speaks again.
pub(super) struct Turn<'a> {
    /// The model, or else the user's side.
    pub(super) by_model: bool,
    /// Never empty.
    pub(super) blocks: Vec<Block<'a>>,
}

/// One part of a turn.
pub(super) enum Block<'a> {
    /// Anything but blank text.
    Part(&'a Part),
    /// Text that had to be shortened.
    Text(&'a str),
}

impl<'a> Conversation<'a> {
    /// Sorts the messages. Blank texts are left out, since both providers refuse them, and so are
    /// turns that have nothing else.
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
            let by_model = message.role == Role::Assistant;
            if conversation.turns.last().is_none_or(|last| last.by_model != by_model) {
                conversation.turns.push(Turn { by_model, blocks: Vec::new() });
            }
            let Some(turn) = conversation.turns.last_mut() else { continue };
            message.parts.iter().for_each(|part| match part {
                Part::Text(text) if is_blank(text) => {}
                // what it would follow is not there
                Part::CachePoint { .. } if turn.blocks.is_empty() => {}
                _ => turn.blocks.push(Block::Part(part)),
            });
            // a turn of blank text would stand between two that belong together
            if conversation.turns.last().is_some_and(|turn| turn.blocks.is_empty()) {
                conversation.turns.pop();
            }
        }
        conversation.trim_prefill();
        for turn in conversation.turns.iter_mut().filter(|turn| !turn.by_model) {
            // Both want the results of calls before anything else.
            turn.blocks.sort_by_key(|block| !matches!(block, Block::Part(Part::ToolResult { .. })));
        }
        conversation
    }

    /// A last turn by the model is a start that it is to go on from; both providers refuse white
    /// space at its end.
    fn trim_prefill(&mut self) {
        let Some(last) = self.turns.last_mut().filter(|turn| turn.by_model) else { return };
        if let Some(block @ Block::Part(Part::Text(_))) = last.blocks.last_mut()
            && let Block::Part(Part::Text(text)) = block
        {
            *block = Block::Text(text.trim_end());
        }
    }

    /// Whether calls or their results are part of it.
    pub(super) fn has_tool_history(&self) -> bool {
        let is_tool = |block: &Block<'_>| {
            matches!(block, Block::Part(Part::ToolCall(_) | Part::ToolResult { .. }))
        };
        self.turns.iter().any(|turn| turn.blocks.iter().any(is_tool))
    }

    /// The names of the functions that were called: both providers want tools offered whenever the
    /// history holds calls, even if the request offers none (d1.19).
    pub(super) fn called_before(&self) -> BTreeSet<&'a str> {
        let blocks = self.turns.iter().flat_map(|turn| &turn.blocks);
        let mut called: BTreeSet<&str> = blocks
            .filter_map(|block| match block {
                Block::Part(Part::ToolCall(call)) => Some(call.name.as_str()),
                Block::Part(_) | Block::Text(_) => None,
            })
            .collect();
        // results without their calls: the provider says what is wrong, but wants a tool to say it
        if called.is_empty() {
            called.insert("unknown");
        }
        called
    }
}

/// The system text that stands for `json_object`: neither provider enforces JSON without a schema.
pub(super) const JSON_OBJECT: &str = "Answer with one JSON object and nothing before or after it.";

/// A function without parameters has an empty object for a schema, not null.
pub(super) fn schema(parameters: &Value) -> Value {
    if parameters.is_object() { parameters.clone() } else { json!({"type": "object"}) }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// A result's text; both providers refuse an empty one.
pub(super) fn result_text(content: &str) -> Cow<'_, str> {
    if is_blank(content) { Cow::Borrowed("(no output)") } else { Cow::Borrowed(content) }
}

/// The arguments of a call as the object that both providers want; none at all is `{}`.
pub(super) fn arguments(text: &str, provider: &str) -> Result<Map<String, Value>, GatewayError> {
    if is_blank(text) {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|_| {
        untranslatable("messages", provider, "takes a JSON object as the arguments of a tool call")
    })
}

#[cfg(test)]
mod tests {
    use super::{Block, Conversation, arguments};
    use crate::generation::{Generation, Message, Part, Role, ToolCall};

    fn shape(messages: Vec<Message>) -> (Vec<String>, String) {
        let generation = Generation { messages, ..Generation::default() };
        let conversation = Conversation::of(&generation);
        let block = |block: &Block<'_>| match block {
            Block::Part(Part::Text(text)) => text.clone(),
            Block::Text(text) => (*text).to_owned(),
            Block::Part(Part::CachePoint { .. }) => "cache".to_owned(),
            Block::Part(Part::ToolCall(call)) => format!("call {}", call.id),
            Block::Part(Part::ToolResult { id, .. }) => format!("result {id}"),
            Block::Part(_) => "?".to_owned(),
        };
        let turn = |turn: &super::Turn<'_>| {
            let blocks: Vec<String> = turn.blocks.iter().map(block).collect();
            format!("{}[{}]", if turn.by_model { "model" } else { "user" }, blocks.join("|"))
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
    fn turns_alternate_and_system_stands_apart() {
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
    fn cache_points_follow_what_is_to_be_kept() {
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
        assert!(arguments("", "P").unwrap().is_empty());
        assert_eq!(arguments("{\"a\":1}", "P").unwrap()["a"], 1);
        assert!(arguments("[1]", "P").is_err() && arguments("{\"a\":", "P").is_err());
    }
}
