//! Every prompt id that GitLab requests over REST, with the inputs it sends
//! (contract::gitlab_client §8.2, §8.3), and what its side reads out of the responses: the parsers
//! here are written from the contract's grammars.

use serde_json::{Map, Value, json};

use crate::support::{Gateway, Reply, Upstream};

/// What GitLab sends for one prompt.
struct Received {
    id: &'static str,
    /// The version it requests when no self-hosted model is set; `^1.0.0` is always requested, too.
    version: &'static str,
    feature: &'static str,
    inputs: Value,
    /// The inputs that the model must receive.
    seen: &'static [&'static str],
}

fn received(
    id: &'static str,
    version: &'static str,
    feature: &'static str,
    seen: &'static [&'static str],
    inputs: Value,
) -> Received {
    Received { id, version, feature, inputs, seen }
}

/// Returns the five inputs that all chat tools share, and more.
fn common(more: Value) -> Value {
    let mut inputs = json!({
        "input": "INPUT", "suggestions": null, "selected_text": "SELECTED", "file_content": "FILE", "language_info": "LANGUAGE",
    });
    let Value::Object(more) = more else { panic!("{more}") };
    inputs.as_object_mut().unwrap().extend(more);
    inputs
}

#[rustfmt::skip]
fn chat_tools() -> Vec<Received> {
    let reuse = json!({"libraries": ["LIBRARY"], "file_content_reuse": "REUSE"});
    let reader = |id| received(id, "^1.0.0", "duo_chat", &["INPUT", "NOTES"], json!({"input": "INPUT", "suggestions": "NOTES"}));
    let documents = json!([{"id": "d119a1b73", "content": "PASSAGE", "metadata": {"filename": "doc/a.md"}}]);
    vec![
        received("chat/explain_code", "^1.0.0", "duo_chat_explain_code", &["INPUT", "SELECTED", "FILE", "LANGUAGE"], common(json!({}))),
        received("chat/write_tests", "^1.0.0", "duo_chat_write_tests", &["INPUT", "SELECTED", "FILE", "LANGUAGE", "LIBRARY"], common(json!({"libraries": ["LIBRARY"]}))),
        received("chat/refactor_code", "^1.0.0", "duo_chat_refactor_code", &["INPUT", "SELECTED", "LIBRARY", "REUSE"], common(reuse.clone())),
        received("chat/fix_code", "^1.0.0", "duo_chat_fix_code", &["INPUT", "SELECTED", "LIBRARY", "REUSE"], common(reuse)),
        received("chat/explain_vulnerability", "1.0.1", "duo_chat_explain_vulnerability", &["TITLE", "CWE-89", "INFO", "DESCRIPTION", "LANGUAGE"],
            common(json!({"title": "TITLE", "identifiers": "CWE-89", "vulnerability_info": "INFO", "vulnerability_description": "DESCRIPTION"}))),
        received("chat/troubleshoot_job", "^1.0.0", "duo_chat_troubleshoot_job", &["LOG", "LANGUAGE"],
            json!({"input": "INPUT", "suggestions": "", "selected_text": "LOG", "language_info": "LANGUAGE"})),
        received("chat/summarize_comments", "^1.0.0", "duo_chat_summarize_comments", &["<comment>NOTE</comment>"], common(json!({"notes_content": "<comment>NOTE</comment>"}))),
        reader("chat/issue_reader"),
        reader("chat/epic_reader"),
        reader("chat/merge_request_reader"),
        reader("chat/commit_reader"),
        reader("chat/build_reader"),
        reader("chat/work_item_reader"),
        received("chat/documentation_search", "^1.0.0", "duo_chat", &["QUESTION", "PASSAGE", "CNT-IDX-d119a1b73", "ATTRS"],
            json!({"question": "QUESTION", "content_id": "ATTRS", "documents": documents})),
    ]
}

#[rustfmt::skip]
fn others() -> Vec<Received> {
    vec![
        received("generate_commit_message", "1.2.0", "generate_commit_message", &["DIFF"], json!({"diff": "DIFF"})),
        received("summarize_new_merge_request", "^2.0.0", "summarize_new_merge_request", &["DIFF"], json!({"extracted_diff": "DIFF"})),
        received("summarize_review", "2.1.0", "summarize_review", &["Comment: DRAFT"], json!({"draft_notes_content": "Comment: DRAFT"})),
        received("review_merge_request", "1.3.0", "review_merge_request", &["TITLE", "DESCRIPTION", "LINES", "INTRO", "FULL", "CUSTOM"], json!({
            "mr_title": "TITLE", "mr_description": "DESCRIPTION", "diff_lines": "LINES", "full_file_intro": "INTRO",
            "full_content_section": "FULL", "custom_instructions_section": "CUSTOM"})),
        received("resolve_vulnerability", "1.0.1", "resolve_vulnerability", &["NAME", "app.rb", "CWE-89", "VULNERABLE", "SOURCE", "DESCRIPTION"], json!({
            "name": "NAME", "filename": "app.rb", "identifiers": "CWE-89", "vulnerable_code": "VULNERABLE", "source_code": "SOURCE",
            "vulnerability_description": "DESCRIPTION"})),
        received("generate_description", "^1.0.0", "duo_chat", &["CONTENT"], json!({"content": "CONTENT", "template": null})),
        received("measure_comment_temperature", "^1.0.0", "duo_chat", &["CONTENT"], json!({"content": "CONTENT"})),
        received("categorize_question", "^1.0.0", "duo_chat", &["QUESTION"], json!({"question": "QUESTION", "previous_answer": null})),
        received("glab_ask_git_command", "1.0.0", "glab_ask_git_command", &["PROMPT"], json!({"prompt": "PROMPT"})),
        received("generate_session_title", "^1.0.0", "duo_agent_platform", &["CONTEXT", "DEFINITION"], json!({"context": "CONTEXT", "definition": "DEFINITION"})),
        received("summarize_duo_workflow", "^1.0.0", "duo_agent_platform", &["LOGS"], json!({"logs": "LOGS"})),
        received("classify_code_review_mention_intent", "^1.0.0", "duo_agent_platform", &["MESSAGE"], json!({"message": "MESSAGE"})),
        received("feature_discovery_search", "^1.0.0", "duo_chat", &["QUERY", "code_owners"], json!({"query": "QUERY", "features": ["code_owners", {"id": "boards"}]})),
        received("code_suggestions/generations", "^2.0.1", "code_generations", &["ABOVE", "BELOW", "INSTRUCTION", "LIBRARY", "RELATED", "a.py"], json!({
            "examples_array": [{"example": "E{{cursor}}", "response": "<new_code>E", "trigger_type": "comment"}], "file_name": "a.py", "language": "Python",
            "libraries": ["LIBRARY"], "related_files": ["RELATED"], "related_snippets": [], "trimmed_content_above_cursor": "ABOVE",
            "trimmed_content_below_cursor": "BELOW", "user_instruction": "INSTRUCTION"})),
    ]
}

/// Returns what the model received: all messages, one after the other.
fn reported(upstream: &Upstream) -> String {
    let sent = upstream.requests().pop().unwrap().json();
    let messages = sent["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn every_prompt_takes_what_gitlab_sends() {
    let upstream = Upstream::says("An answer").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for Received { id, version, feature, inputs, seen } in chat_tools().into_iter().chain(others())
    {
        for version in [version, "^1.0.0"] {
            let stream = id.starts_with("chat/");
            let body = json!({"inputs": inputs, "stream": stream, "prompt_version": version});
            let answer =
                gateway.post(&format!("/v1/prompts/{}", id.replace('/', "%2F")), &body).await;
            assert_eq!(answer.status(), 200, "{id} {version}: {}", answer.text());
            let expected =
                if stream { "An answer".to_owned() } else { json!("An answer").to_string() };
            assert_eq!(answer.text(), expected, "{id}");
            let reported = reported(&upstream);
            seen.iter().for_each(|text| {
                assert!(reported.contains(text), "{id} does not tell {text}:\n{reported}")
            });
            assert_eq!(gateway.line(&answer).await["feature"], feature, "{id}");
        }
    }
}

/// The list above is the program's: no prompt is untested, and none of the contract is missing.
#[test]
fn the_contracts_list_is_the_registrys() {
    let has_a_surface_of_its_own =
        |id: &str| ["chat/agent", "chat/react", "code_suggestions/completions"].contains(&id);
    let registry = weir::prompt::PromptRegistry::embedded().unwrap();
    let mut there: Vec<&str> = registry
        .iter()
        .filter(|prompt| prompt.family.is_none())
        .map(|prompt| &*prompt.id)
        .collect();
    there.retain(|id| !has_a_surface_of_its_own(id));
    let mut expected: Vec<&str> =
        chat_tools().iter().chain(&others()).map(|received| received.id).collect();
    expected.sort_unstable();
    assert_eq!(there, expected);
    for prompt in registry.iter().filter(|prompt| expected.contains(&&*prompt.id)) {
        let missing = prompt.inputs.iter().find(|name| !prompt.example.contains_key(*name));
        assert_eq!(missing, None, "{}: [example] has every input", prompt.path());
    }
}

/// Returns what the model receives for a prompt's example, which contains the answer in its format.
fn shown(id: &str) -> String {
    let registry = weir::prompt::PromptRegistry::embedded().unwrap();
    let prompt = registry.base(id).unwrap();
    let rendered = prompt.render(&prompt.example).unwrap();
    let weir::generation::Part::Text(system) = &rendered.messages[0].parts[0] else {
        panic!("{rendered:?}")
    };
    system.clone()
}

/// Returns GitLab's answer when the model's response is `text`.
async fn through_the_gateway(id: &str, inputs: Value, stated: &str) -> String {
    let message = json!({"role": "assistant", "content": stated});
    let reply = Reply::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "up",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}),
    );
    let upstream = Upstream::always(reply).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.post(&format!("/v1/prompts/{id}"), &json!({ "inputs": inputs })).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json().as_str().unwrap().to_owned()
}

/// What follows a fence that opens with `json`, up to the next fence; a text without the key gets
/// the opening put in front; what follows `Question:` is cut (contract::gitlab_client §8.2).
fn resource(text: &str) -> Option<(String, Value)> {
    let opened = if text.contains("ResourceIdentifierType") {
        text.to_owned()
    } else {
        format!("```json\n{{\"ResourceIdentifierType\": \"{text}")
    };
    let cut = opened.split("Question:").next()?;
    let json: Map<String, Value> =
        serde_json::from_str(cut.split("```json").nth(1)?.split("```").next()?).ok()?;
    let kind = json["ResourceIdentifierType"].as_str()?.to_owned();
    ["current", "iid", "url", "reference"]
        .contains(&kind.as_str())
        .then(|| (kind, json["ResourceIdentifier"].clone()))
}

#[tokio::test]
async fn readers_name_a_resource() {
    for (id, iid) in [
        ("chat/issue_reader", json!(12)),
        ("chat/epic_reader", json!(12)),
        ("chat/merge_request_reader", json!(12)),
        ("chat/commit_reader", json!("3e1f09a")),
        ("chat/build_reader", json!(4512)),
        ("chat/work_item_reader", json!(12)),
    ] {
        let system = shown(id);
        let examples: Vec<_> = system
            .match_indices("```json")
            .map(|(at, _)| resource(&system[at..]).unwrap())
            .collect();
        let kinds: Vec<&str> = examples.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!((kinds, &examples[0].1), (vec!["iid", "reference", "current"], &iid), "{id}");
    }
    let answer = "<think>a number</think>\n```json\n{\"ResourceIdentifierType\": \"iid\", \"ResourceIdentifier\": 34}\n```";
    let got = through_the_gateway(
        "chat/issue_reader",
        json!({"input": "#34?", "suggestions": ""}),
        answer,
    )
    .await;
    assert_eq!(resource(&got), Some(("iid".to_owned(), json!(34))));
    assert_eq!(
        resource("iid\", \"ResourceIdentifier\": 34}"),
        Some(("iid".to_owned(), json!(34))),
        "a bare continuation"
    );
}

/// Returns the answer's text, and the ids of the documents it cites (contract::gitlab_client §8.2).
fn sources(text: &str) -> (String, Vec<String>) {
    let (answer, attributes) = text.split_once("ATTRS:").unwrap_or((text, ""));
    let is_id = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    let ids = attributes
        .split("CNT-IDX-")
        .skip(1)
        .map(|id| id.chars().take_while(|c| is_id(*c)).collect());
    let doubts = text.to_lowercase();
    let unknown = doubts.find("i do").is_some_and(|at| doubts[at..].contains("know"));
    (answer.trim().to_owned(), if unknown { Vec::new() } else { ids.collect() })
}

#[tokio::test]
async fn documentation_answers_name_their_sources() {
    let system = shown("chat/documentation_search");
    let (_, example) = system.split_once("as the marker:").unwrap();
    let (answer, ids) = sources(example);
    assert!(answer.starts_with("Select **Code") && ids == ["4a7c1", "b20d9"], "{answer} {ids:?}");
    let unknown = system.lines().find_map(|line| line.split_once("write only: ")).unwrap().1;
    assert_eq!(sources(&format!("{unknown}\nATTRS:\nCNT-IDX-1")).1, Vec::<String>::new());
    let inputs = json!({"question": "q", "content_id": "ATTRS", "documents": [{"id": "d11", "content": "c"}]});
    let got = through_the_gateway(
        "chat/documentation_search",
        inputs,
        "Do this.\n\nATTRS:\nCNT-IDX-d11\n",
    )
    .await;
    assert_eq!(sources(&got), ("Do this.".to_owned(), vec!["d11".to_owned()]));
}

/// A review's comment: file, old line, new line, text, suggestions as (from, to).
#[derive(Debug, PartialEq)]
struct Comment {
    file: String,
    old_line: Option<u32>,
    new_line: Option<u32>,
    text: String,
    suggestions: Vec<(String, String)>,
}

fn attribute<'t>(tag: &'t str, name: &str) -> &'t str {
    tag.split_once(&format!("{name}=\""))
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or_default()
}

/// The last `<review>` block; comments begin a line and end one (contract::gitlab_client §8.3).
fn review(text: &str) -> Option<Vec<Comment>> {
    let block = text.rsplit_once("<review>")?.1.split_once("</review>")?.0;
    let mut comments = Vec::new();
    for (at, _) in block.match_indices("<comment ").filter(|(at, _)| block[..*at].ends_with('\n')) {
        let (tag, rest) = block[at..].split_once('>')?;
        let end = rest
            .match_indices("</comment>")
            .find(|(at, tag)| matches!(rest.as_bytes().get(at + tag.len()), None | Some(b'\n')))?
            .0;
        let body = &rest[..end];
        let inside = |tag: &str| -> Vec<String> {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let text = |part: &str| {
                part.split(close.as_str()).next().unwrap().trim_matches('\n').to_owned()
            };
            body.split(open.as_str()).skip(1).map(text).collect()
        };
        let comment = Comment {
            file: attribute(tag, "file").to_owned(),
            old_line: attribute(tag, "old_line").parse().ok(),
            new_line: attribute(tag, "new_line").parse().ok(),
            text: body.split("<from>").next()?.trim().to_owned(),
            suggestions: inside("from").into_iter().zip(inside("to")).collect(),
        };
        if comment.file.is_empty() || (comment.old_line.is_none() && comment.new_line.is_none()) {
            return None;
        }
        comments.push(comment);
    }
    Some(comments)
}

#[tokio::test]
async fn reviews_are_comments_on_lines() {
    let system = shown("review_merge_request");
    let (example, _) = system.split_once("Rules of the form").unwrap();
    let comments = review(example).unwrap();
    assert_eq!(comments.len(), 2, "{comments:?}");
    assert_eq!((comments[0].new_line, comments[1].old_line), (Some(12), Some(40)));
    assert_eq!(
        comments[0].suggestions,
        [("    name.upcase".to_owned(), "    name.to_s.upcase".to_owned())]
    );
    assert_eq!(review("<review></review>"), Some(Vec::new()));
    let inputs = json!({"mr_title": "t", "mr_description": "d", "diff_lines": "l", "full_file_intro": "",
        "full_content_section": "", "custom_instructions_section": ""});
    let answer = "Here it is:\n<review>\n<comment file=\"a.rb\" old_line=\"\" new_line=\"7\">\nThis may be nil.\n</comment>\n</review>";
    let got = through_the_gateway("review_merge_request", inputs, answer).await;
    let expected = Comment {
        file: "a.rb".to_owned(),
        old_line: None,
        new_line: Some(7),
        text: "This may be nil.".to_owned(),
        suggestions: Vec::new(),
    };
    assert_eq!(review(&got), Some(vec![expected]));
}

/// Returns the text between a tag and its end; a newline must follow the tag
/// (contract::gitlab_client §8.3).
fn block<'t>(text: &'t str, tag: &str) -> Option<&'t str> {
    text.split_once(&format!("<{tag}>\n"))?.1.split(&format!("</{tag}>")).next()
}

#[tokio::test]
async fn fixes_are_blocks() {
    let system = shown("resolve_vulnerability");
    let (_, example) = system.split_once("after each opening tag:").unwrap();
    assert!(
        block(example, "fixed_code").unwrap().contains("os.path.basename(name))\n"),
        "indentation and lines are kept"
    );
    assert_eq!(block(example, "is_false_positive").map(str::trim), Some("false"));
    assert!(
        ["analysis", "summary"]
            .iter()
            .all(|tag| block(example, tag).is_some_and(|text| !text.trim().is_empty()))
    );
    let inputs = json!({"name": "n", "filename": "f", "identifiers": "i", "vulnerable_code": "v", "source_code": "s",
        "vulnerability_description": "d"});
    let answer = "<analysis>\na\n</analysis>\n<fixed_code>\n  ok()\n</fixed_code>\n<summary>\ns\n</summary>\n<is_false_positive>\nfalse</is_false_positive>";
    let got = through_the_gateway("resolve_vulnerability", inputs, answer).await;
    assert_eq!(block(&got, "fixed_code"), Some("  ok()\n"));
}

/// Prompts whose answer is JSON as text show a line of it that parses.
#[test]
fn json_answers_are_shown_as_json() {
    let line = |id: &str| -> Value {
        let system = shown(id);
        let line = system.lines().find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str(line).unwrap()
    };
    let category = line("categorize_question");
    assert!(
        category["category"].is_string() && category["detailed_category"].is_string(),
        "{category}"
    );
    assert!(category["language"].is_string() && category["labels"].is_array(), "{category}");
    assert!(line("measure_comment_temperature")["rating"].is_u64());
    assert!(line("feature_discovery_search")["feature_ids"].is_array());
}

#[test]
fn one_word_answers_are_gitlabs_text() {
    let system = shown("classify_code_review_mention_intent");
    for word in ["code_review_request", "write_actions", "agentic_chat"] {
        assert_eq!(system.lines().filter(|line| *line == word).count(), 1, "an example of {word}");
    }
}
