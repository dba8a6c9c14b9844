//! The conversation, as the model is told it: what the user has added stands before the question it
//! was added to.

use std::fmt::Write as _;

use super::request::{CurrentFile, Done, Item, Page, Request, Turn};
use crate::generation::{Message, Part, Role, ToolCall};

/// GitLab gives up after ten steps (A1006): with this many behind it, the model is told to answer.
const MAX_STEPS: usize = 9;

/// How the steps so far are told, and the next one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As calls and results of functions.
    Native,
    /// As text.
    React,
}

/// Every message behind the prompt's own. What a system message says is an instruction of GitLab's.
pub(super) fn messages(request: &Request<'_>, way: Way) -> Vec<Message> {
    let said = request.messages.iter().filter_map(|turn| match turn.role() {
        Role::User => Some(Message::text(Role::User, question(turn))),
        role => turn.content.as_deref().map(|content| Message::text(role, content)),
    });
    let mut messages: Vec<Message> = Vec::with_capacity(request.messages.len());
    for message in said.filter(|message| message.role != Role::System) {
        match messages.last_mut().filter(|last| last.role == message.role) {
            // templates of many models refuse two turns of one speaker
            Some(last) => last.parts.extend(message.parts),
            None => messages.push(message),
        }
    }
    let steps = request.steps();
    for (index, step) in steps.iter().enumerate() {
        let observed = observed(step, index + 1 == steps.len() && steps.len() >= MAX_STEPS);
        match way {
            Way::Native => messages.extend(called(step, index, observed)),
            Way::React => messages.extend(told(step, &observed)),
        }
    }
    messages
}

/// The texts of the system messages.
pub(super) fn instructions<'a>(request: &'a Request<'_>) -> impl Iterator<Item = &'a str> {
    let system = request.messages.iter().filter(|turn| turn.role() == Role::System);
    system.filter_map(|turn| turn.content.as_deref())
}

/// A call and its result. Mistral's templates want ids of nine letters and digits.
fn called(step: &Done<'_>, index: usize, observed: String) -> [Message; 2] {
    let id = format!("step{:05}", index + 1);
    let arguments = serde_json::json!({ "input": step.input }).to_string();
    let mut parts = Vec::with_capacity(2);
    if !step.thought.is_empty() {
        parts.push(Part::Text(step.thought.to_owned()));
    }
    parts.push(Part::ToolCall(ToolCall { id: id.clone(), name: step.tool.to_owned(), arguments }));
    let result = Part::ToolResult { id, content: observed, is_error: false };
    [Message { role: Role::Assistant, parts }, Message { role: Role::Tool, parts: vec![result] }]
}

/// The same as two turns of text: a last turn by the model, to go on from, is not taken everywhere.
fn told(step: &Done<'_>, observed: &str) -> [Message; 2] {
    let Done { thought, tool, input, .. } = step;
    let call = format!("Thought: {thought}\nAction: {tool}\nAction Input: {input}");
    [
        Message::text(Role::Assistant, call),
        Message::text(Role::User, format!("Observation: {observed}")),
    ]
}

fn observed(step: &Done<'_>, is_last: bool) -> String {
    let said = if step.observation.trim().is_empty() {
        "The tool failed and said nothing."
    } else {
        step.observation
    };
    let hint = if is_last {
        "\n\n(No more tools can be used for this question. Answer it now with what is known.)"
    } else {
        ""
    };
    format!("{said}{hint}")
}

/// A message of the user's with what belongs to it.
fn question(turn: &Turn<'_>) -> String {
    let mut text = String::new();
    turn.context.iter().for_each(|context| page(context, &mut text));
    turn.current_file.iter().for_each(|open| file(open, &mut text));
    turn.items().iter().for_each(|added| item(added, &mut text));
    text.push_str(turn.content.as_deref().unwrap_or_default());
    text
}

// Writing to a String does not fail.

fn page(page: &Page<'_>, text: &mut String) {
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

fn file(file: &CurrentFile<'_>, text: &mut String) {
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

fn item(item: &Item<'_>, text: &mut String) {
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

/// On one line and without quotes of its own.
fn attribute(text: &str) -> String {
    text.replace(['"', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Way, instructions, messages};
    use crate::generation::{Message, Part, Role};

    fn told(body: &Value, way: Way) -> Vec<Message> {
        messages(&serde_json::from_str(&body.to_string()).unwrap(), way)
    }

    fn text(message: &Message) -> &str {
        match message.parts.as_slice() {
            [Part::Text(text)] => text,
            other => panic!("{other:?}"),
        }
    }

    fn question(turn: Value) -> String {
        let mut turn = turn;
        turn["role"] = json!("user");
        turn["content"] = json!("Why?");
        text(&told(&json!({"messages": [turn]}), Way::Native)[0]).to_owned()
    }

    #[test]
    fn what_was_added_stands_before_the_question() {
        assert_eq!(question(json!({})), "Why?");
        let said = question(json!({"context": {"type": "merge_request", "title": "Fix it"}}));
        assert_eq!(
            said,
            "The user looks at the merge request titled \"Fix it\" in GitLab.\n\nWhy?"
        );
        assert_eq!(
            question(json!({"context": {"type": "build"}})),
            "The user looks at a build in GitLab.\n\nWhy?"
        );
        let said = question(
            json!({"current_file": {"file_path": "a.py", "data": "x = 1", "selected_code": true}}),
        );
        assert!(said.contains("a.py:\n<selection>\nx = 1\n</selection>\n\nWhy?"), "{said}");
        let items = json!([
            {"category": "file", "id": "a\"b", "content": "puts 1", "metadata": {"title": "t"}},
            {"category": "user_rule", "content": "Be brief", "metadata": {}},
        ]);
        let said = question(json!({"additional_context": items}));
        let first = "<context category=\"file\" id=\"a b\">\nmetadata: {\"title\":\"t\"}\nputs 1\n</context>\n\n";
        assert_eq!(
            said,
            format!("{first}<context category=\"user_rule\">\nBe brief\n</context>\n\nWhy?")
        );
    }

    #[test]
    fn neighbours_of_one_speaker_are_one_turn() {
        let said = |role: &str, content: &str| json!({"role": role, "content": content});
        let body = json!({"messages": [said("user", "a"), said("user", "b"), said("assistant", "c"), said("user", "d")]});
        let told = told(&body, Way::Native);
        assert_eq!((told.len(), told[0].parts.len(), text(&told[2])), (3, 2, "d"));
    }

    #[test]
    fn the_last_step_is_told_to_answer() {
        let step = json!({"action": {"tool": "issue_reader"}, "observation": null});
        let with = |steps: usize| {
            let scratchpad = vec![&step; steps];
            let body = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "agent_scratchpad": scratchpad}]});
            told(&body, Way::React)
                .iter()
                .filter(|message| text(message).contains("Answer it now"))
                .count()
        };
        assert_eq!([with(8), with(9), with(10)], [0, 1, 1]);
    }

    fn loop_of_one() -> Value {
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
    fn steps_are_calls_and_results() {
        let told = told(&loop_of_one(), Way::Native);
        let roles: Vec<Role> = told.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::Assistant, Role::Tool]);
        let [Part::Text(thought), Part::ToolCall(call)] = told[3].parts.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(
            (thought.as_str(), call.name.as_str(), call.arguments.as_str()),
            ("t", "issue_reader", r##"{"input":"#1"}"##)
        );
        let Part::ToolResult { id, content, .. } = &told[4].parts[0] else { panic!("{told:?}") };
        assert_eq!((id, id.len(), content.as_str()), (&call.id, 9, "open"));
    }

    #[test]
    fn steps_are_text_that_ends_with_the_user() {
        let told = told(&loop_of_one(), Way::React);
        assert_eq!(text(&told[3]), "Thought: t\nAction: issue_reader\nAction Input: #1");
        assert_eq!((told[4].role, text(&told[4])), (Role::User, "Observation: open"));
        let text = loop_of_one().to_string();
        let request = serde_json::from_str(&text).unwrap();
        assert_eq!(instructions(&request).collect::<Vec<_>>(), ["Be brief"]);
    }
}
