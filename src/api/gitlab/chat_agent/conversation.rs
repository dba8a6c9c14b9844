//! Converts the conversation to messages for the model: context that the user has added comes
//! before the question it was added to.

use std::fmt::Write as _;

use super::request::{AgentStep, ChatMessage, ChatRequest, ContextItem, CurrentFile, PageContext};
use crate::generation::{Message, Part, Role, ToolCall};

/// GitLab gives up after ten steps (A1006): after this many the model is instructed to answer.
const MAX_STEPS: usize = 9;

/// How the model calls tools, and how earlier steps are presented to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolProtocol {
    /// The provider's function calls and results.
    Native,
    /// ReAct steps in the text.
    React,
}

/// Returns every message that follows the prompt's own: the conversation without its system
/// messages (see [`instructions`]), then the steps taken for the last question.
pub(super) fn messages(request: &ChatRequest<'_>, protocol: ToolProtocol) -> Vec<Message> {
    let converted = request.messages.iter().filter_map(|message| match message.role() {
        Role::User => Some(Message::text(Role::User, user_text(message))),
        role => message.content.as_deref().map(|content| Message::text(role, content)),
    });
    let mut messages: Vec<Message> = Vec::with_capacity(request.messages.len());
    for message in converted.filter(|message| message.role != Role::System) {
        match messages.last_mut().filter(|last| last.role == message.role) {
            // templates of many models reject two messages of one role in a row
            Some(last) => last.parts.extend(message.parts),
            None => messages.push(message),
        }
    }
    let steps = request.steps();
    for (index, step) in steps.iter().enumerate() {
        let is_last = index + 1 == steps.len() && steps.len() >= MAX_STEPS;
        let result = tool_result(step, is_last);
        match protocol {
            ToolProtocol::Native => messages.extend(native_step(step, index, result)),
            ToolProtocol::React => messages.extend(react_step(step, &result)),
        }
    }
    messages
}

/// Returns the texts of the system messages, which are GitLab's instructions.
pub(super) fn instructions<'a>(request: &'a ChatRequest<'_>) -> impl Iterator<Item = &'a str> {
    let system = request.messages.iter().filter(|message| message.role() == Role::System);
    system.filter_map(|message| message.content.as_deref())
}

/// Returns a step as a function call and its result. Mistral's templates require ids of nine
/// letters and digits.
fn native_step(step: &AgentStep<'_>, index: usize, result: String) -> [Message; 2] {
    let id = format!("step{:05}", index + 1);
    let arguments = serde_json::json!({ "input": step.input }).to_string();
    let mut parts = Vec::with_capacity(2);
    if !step.thought.is_empty() {
        parts.push(Part::Text(step.thought.to_owned()));
    }
    parts.push(Part::ToolCall(ToolCall { id: id.clone(), name: step.tool.to_owned(), arguments }));
    let result = Part::ToolResult { id, content: result, is_error: false };
    [Message { role: Role::Assistant, parts }, Message { role: Role::Tool, parts: vec![result] }]
}

/// Returns a step as two messages of text. The last one is the user's: not every server accepts a
/// last message of the assistant to continue from.
fn react_step(step: &AgentStep<'_>, result: &str) -> [Message; 2] {
    let AgentStep { thought, tool, input, .. } = step;
    let call = format!("Thought: {thought}\nAction: {tool}\nAction Input: {input}");
    [
        Message::text(Role::Assistant, call),
        Message::text(Role::User, format!("Observation: {result}")),
    ]
}

/// Returns the tool's result for the model. The last step that GitLab allows adds the instruction
/// to answer.
fn tool_result(step: &AgentStep<'_>, is_last: bool) -> String {
    let result = if step.observation.trim().is_empty() {
        "The tool failed and returned nothing."
    } else {
        step.observation
    };
    let hint = if is_last {
        "\n\n(No more tools can be used for this question. Answer it now with what is known.)"
    } else {
        ""
    };
    format!("{result}{hint}")
}

/// Returns the text of a user's message, after the context added to it.
fn user_text(message: &ChatMessage<'_>) -> String {
    let mut text = String::new();
    message.context.iter().for_each(|page| write_page(page, &mut text));
    message.current_file.iter().for_each(|file| write_file(file, &mut text));
    message.context_items().iter().for_each(|item| write_item(item, &mut text));
    text.push_str(message.content.as_deref().unwrap_or_default());
    text
}

// Writing to a String does not fail, so the results below are dropped.

fn write_page(page: &PageContext<'_>, text: &mut String) {
    let kind = page.kind.as_deref().unwrap_or("page").replace('_', " ");
    if let Some(content) = &page.content {
        let _ = writeln!(
            text,
            "The user looks at this {kind} in GitLab:\n<page>\n{content}\n</page>\n"
        );
        return;
    }
    let _ = match &page.title {
        Some(title) => {
            writeln!(text, "The user looks at the {kind} titled \"{title}\" in GitLab.\n")
        }
        None => writeln!(text, "The user looks at a {kind} in GitLab.\n"),
    };
}

fn write_file(file: &CurrentFile<'_>, text: &mut String) {
    let (path, data) =
        (file.file_path.as_deref().unwrap_or("unnamed"), file.data.as_deref().unwrap_or_default());
    if data.is_empty() {
        let _ = writeln!(text, "The user has the file {path} open.\n");
        return;
    }
    let (what, tag) = if file.selected_code == Some(true) {
        ("has selected this code in", "selection")
    } else {
        ("has opened", "file")
    };
    let _ = writeln!(text, "The user {what} the file {path}:\n<{tag}>\n{data}\n</{tag}>\n");
}

fn write_item(item: &ContextItem<'_>, text: &mut String) {
    let _ = write!(text, "<context category=\"{}\"", attribute(&item.category));
    if let Some(id) = &item.id {
        let _ = write!(text, " id=\"{}\"", attribute(id));
    }
    text.push_str(">\n");
    if let Some(metadata) =
        item.metadata.as_ref().filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))
    {
        let _ = writeln!(text, "metadata: {metadata}");
    }
    let _ = writeln!(text, "{}\n</context>\n", item.content.as_deref().unwrap_or_default());
}

/// Returns the text as the value of a quoted attribute: quotes and line ends become spaces.
fn attribute(text: &str) -> String {
    text.replace(['"', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{ToolProtocol, instructions, messages};
    use crate::generation::{Message, Part, Role};

    fn convert(body: &Value, protocol: ToolProtocol) -> Vec<Message> {
        messages(&serde_json::from_str(&body.to_string()).unwrap(), protocol)
    }

    fn text(message: &Message) -> &str {
        match message.parts.as_slice() {
            [Part::Text(text)] => text,
            other => panic!("{other:?}"),
        }
    }

    fn question(message: Value) -> String {
        let mut message = message;
        message["role"] = json!("user");
        message["content"] = json!("Why?");
        text(&convert(&json!({"messages": [message]}), ToolProtocol::Native)[0]).to_owned()
    }

    #[test]
    fn added_context_comes_before_the_question() {
        assert_eq!(question(json!({})), "Why?");
        let shown = question(json!({"context": {"type": "merge_request", "title": "Fix it"}}));
        assert_eq!(
            shown,
            "The user looks at the merge request titled \"Fix it\" in GitLab.\n\nWhy?"
        );
        assert_eq!(
            question(json!({"context": {"type": "build"}})),
            "The user looks at a build in GitLab.\n\nWhy?"
        );
        let shown = question(
            json!({"current_file": {"file_path": "a.py", "data": "x = 1", "selected_code": true}}),
        );
        assert!(shown.contains("a.py:\n<selection>\nx = 1\n</selection>\n\nWhy?"), "{shown}");
        let items = json!([
            {"category": "file", "id": "a\"b", "content": "puts 1", "metadata": {"title": "t"}},
            {"category": "user_rule", "content": "Be brief", "metadata": {}},
        ]);
        let shown = question(json!({"additional_context": items}));
        let first = "<context category=\"file\" id=\"a b\">\nmetadata: {\"title\":\"t\"}\nputs 1\n</context>\n\n";
        assert_eq!(
            shown,
            format!("{first}<context category=\"user_rule\">\nBe brief\n</context>\n\nWhy?")
        );
    }

    #[test]
    fn consecutive_messages_of_one_role_are_merged() {
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let body = json!({"messages": [message("user", "a"), message("user", "b"), message("assistant", "c"), message("user", "d")]});
        let messages = convert(&body, ToolProtocol::Native);
        assert_eq!((messages.len(), messages[0].parts.len(), text(&messages[2])), (3, 2, "d"));
    }

    #[test]
    fn the_last_step_instructs_the_model_to_answer() {
        let step = json!({"action": {"tool": "issue_reader"}, "observation": null});
        let count = |steps: usize| {
            let scratchpad = vec![&step; steps];
            let body = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "agent_scratchpad": scratchpad}]});
            convert(&body, ToolProtocol::React)
                .iter()
                .filter(|message| text(message).contains("Answer it now"))
                .count()
        };
        assert_eq!([count(8), count(9), count(10)], [0, 1, 1]);
    }

    fn one_step() -> Value {
        json!({"messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Q1"},
            {"role": "assistant", "content": "A1"},
            {"role": "assistant", "content": null},
            {"role": "user", "content": "Q2"},
            {"role": "assistant", "agent_scratchpad": [
                {"action": {"thought": "t", "tool": "issue_reader", "tool_input": "#1"}, "observation": "open"}]},
        ]})
    }

    #[test]
    fn native_steps_are_calls_and_results() {
        let messages = convert(&one_step(), ToolProtocol::Native);
        let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::Assistant, Role::Tool]);
        let [Part::Text(thought), Part::ToolCall(call)] = messages[3].parts.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!(
            (thought.as_str(), call.name.as_str(), call.arguments.as_str()),
            ("t", "issue_reader", r##"{"input":"#1"}"##)
        );
        let Part::ToolResult { id, content, .. } = &messages[4].parts[0] else {
            panic!("{messages:?}")
        };
        assert_eq!((id, id.len(), content.as_str()), (&call.id, 9, "open"));
    }

    #[test]
    fn react_steps_are_text_that_ends_with_the_user() {
        let messages = convert(&one_step(), ToolProtocol::React);
        assert_eq!(text(&messages[3]), "Thought: t\nAction: issue_reader\nAction Input: #1");
        assert_eq!((messages[4].role, text(&messages[4])), (Role::User, "Observation: open"));
        let text = one_step().to_string();
        let request = serde_json::from_str(&text).unwrap();
        assert_eq!(instructions(&request).collect::<Vec<_>>(), ["Be brief"]);
    }
}
