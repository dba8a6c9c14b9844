//! Tests of the parser: every sample, cut at every position.

use super::{Action, MAX_BUFFERED, ParsedTurn, ToolProtocol, TurnParser};

/// Parses a turn in these deltas; returns the answer as it was returned, and the turn's result.
fn parse_with<'a>(
    mut parser: TurnParser,
    deltas: impl IntoIterator<Item = &'a str>,
) -> (Vec<String>, ParsedTurn) {
    let answer = deltas.into_iter().filter_map(|delta| parser.feed(delta)).collect();
    (answer, parser.finish())
}

fn parse<'a>(deltas: impl IntoIterator<Item = &'a str>) -> (Vec<String>, ParsedTurn) {
    parse_with(TurnParser::new(ToolProtocol::React, true), deltas)
}

fn action(thought: &str, tool: &str, input: &str) -> (String, ParsedTurn) {
    (
        String::new(),
        ParsedTurn::Action(Action {
            thought: thought.into(),
            tool: tool.into(),
            input: input.into(),
        }),
    )
}

fn answer(text: &str) -> (String, ParsedTurn) {
    (text.into(), ParsedTurn::Answer)
}

fn unknown(text: &str) -> (String, ParsedTurn) {
    (String::new(), ParsedTurn::Unknown(text.into()))
}

/// Turns of models, and their results.
fn samples() -> Vec<(&'static str, (String, ParsedTurn))> {
    vec![
        (
            "Thought: I know this.\nFinal Answer: It is\n\n- one\n- two \n",
            answer("It is\n\n- one\n- two"),
        ),
        ("Final Answer:Grüße, 😀", answer("Grüße, 😀")),
        ("\n Final Answer: \n\n ok", answer("ok")),
        ("**Thought:** easy\n\n**Final Answer:** **Yes** and no", answer("**Yes** and no")),
        ("**Final Answer:**\n* a\n* b", answer("* a\n* b")),
        (
            "Thought: x\nFinal Answer: Use `Final Answer: y` twice",
            answer("Use `Final Answer: y` twice"),
        ),
        ("Action: issue_reader\nAction Input: #1\nFinal Answer: no need", answer("no need")),
        ("Thought: the Action: none\nFinal Answer: ok", answer("ok")),
        (
            "Thought: I need it.\nAction: issue_reader\nAction Input: summarize #1",
            action("I need it.", "issue_reader", "summarize #1"),
        ),
        (
            " need issue\nAction: issue\\_reader\n - Action Input: a\\_b",
            action("need issue", "issue_reader", "a\\_b"),
        ),
        (
            "Action: issue_reader\nAction Input: `#1` and `#2`",
            action("", "issue_reader", "`#1` and `#2`"),
        ),
        (
            "Action: MergeRequestReader\nAction Input: !7\n",
            action("", "merge_request_reader", "!7"),
        ),
        (
            "**Thought:** look\n**Action:** `issue_reader`\n**Action Input:** \"#123\"\n",
            action("look", "issue_reader", "#123"),
        ),
        (
            "Thought: a\nAction: commit_reader\nAction Input: x\ny\nObservation: made up\nThought: b\nFinal Answer: wrong",
            action("a", "commit_reader", "x\ny"),
        ),
        (
            "Action: issue_reader\nAction Input: #1\nThought: then\nAction: epic_reader\nAction Input: &2",
            action("", "issue_reader", "#1"),
        ),
        (
            "so\n</think>\nThought: a\nAction: epic_reader\nAction Input: &1",
            action("a", "epic_reader", "&1"),
        ),
        ("Observation: Final Answer: fine", answer("fine")),
        ("Hello there.", unknown("Hello there.")),
        ("Thought: I am not done", unknown("I am not done")),
        ("Thought: Action: issue_reader", unknown("Action: issue_reader")),
        ("Action Input: #1", unknown("Action Input: #1")),
        ("Thought: x\nFinal Answer:  \n", unknown("")),
        ("**Final Answer:** *", answer("*")),
        ("", unknown("")),
        (" \n", unknown("")),
        ("Final Answe", unknown("Final Answe")),
    ]
}

#[test]
fn samples_are_parsed() {
    for (text, expected) in samples() {
        let (answered, turn) = parse([text]);
        assert_eq!((answered.concat(), turn), expected, "{text:?}");
    }
}

#[test]
fn cuts_do_not_change_the_result() {
    for (text, expected) in samples() {
        let cuts: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        for first in &cuts {
            for second in cuts.iter().filter(|second| *second >= first) {
                let (answered, turn) =
                    parse([&text[..*first], &text[*first..*second], &text[*second..]]);
                assert_eq!(
                    (answered.concat(), turn),
                    expected,
                    "{text:?} cut at {first} and {second}"
                );
            }
        }
        let (answered, turn) = parse(text.split_inclusive(|_| true));
        assert_eq!((answered.concat(), turn), expected, "{text:?} by characters");
        assert!(!answered.iter().any(String::is_empty), "{answered:?}");
    }
}

/// Markers and text in any order, cut anywhere.
#[test]
fn no_order_of_markers_depends_on_the_cuts() {
    const TOKENS: [&str; 14] = [
        "Final Answer:",
        "Action:",
        "Action Input:",
        "Observation:",
        "Thought:",
        "\n",
        " ",
        "**",
        "*",
        "é",
        "issue_reader",
        "Final ",
        "Action",
        "x",
    ];
    let mut state = 0x9e37_79b9_u32;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % bound
    };
    for _ in 0..3000 {
        let text: String = (0..1 + below(12)).map(|_| TOKENS[below(TOKENS.len())]).collect();
        let (answered, turn) = parse([text.as_str()]);
        let mut deltas = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let at = rest.ceil_char_boundary((1 + below(6)).min(rest.len()));
            deltas.push(&rest[..at]);
            rest = &rest[at..];
        }
        let (cut, turn_of_cut) = parse(deltas.iter().copied());
        assert_eq!((answered.concat(), turn), (cut.concat(), turn_of_cut), "{deltas:?}");
    }
}

#[test]
fn an_answer_is_streamed() {
    let (answered, _) = parse(["Thought: a\nFinal", " Answer: It", " is ", "a fake", " answer.\n"]);
    assert_eq!(answered, ["It", " is", " a fake", " answer."]);
}

#[test]
fn an_endless_turn_is_truncated() {
    let piece = "x".repeat(64 << 10);
    let (answered, turn) = parse(std::iter::repeat_n(piece.as_str(), 40));
    assert!(answered.is_empty());
    assert!(matches!(turn, ParsedTurn::Unknown(text) if text.len() == super::MAX_TURN));
}

/// Parses a native model's turn, and checks that cuts do not change the result.
fn parse_native(has_tools: bool, text: &str) -> (String, ParsedTurn) {
    let parse = |deltas: &[&str]| {
        let parser = TurnParser::new(ToolProtocol::Native, has_tools);
        let (answer, turn) = parse_with(parser, deltas.iter().copied());
        (answer.concat(), turn)
    };
    let whole = parse(&[text]);
    for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
        assert_eq!(parse(&[&text[..at], &text[at..]]), whole, "{text:?} cut at {at}");
    }
    let characters: Vec<&str> = text.split_inclusive(|_| true).collect();
    assert_eq!(parse(&characters), whole, "{text:?} by characters");
    whole
}

#[test]
fn short_free_text_is_buffered_and_long_text_is_the_answer() {
    assert_eq!(
        parse_native(true, " Let me look.\n"),
        (String::new(), ParsedTurn::FreeText("Let me look.".into()))
    );
    let long = format!("\n{} end. ", "é".repeat(MAX_BUFFERED));
    assert_eq!(parse_native(true, &long), answer(long.trim()));
    let without_tools = "I know this without any tool. ";
    assert_eq!(parse_native(false, without_tools), answer(without_tools.trim()));
    assert_eq!(parse_native(false, "Hi."), (String::new(), ParsedTurn::FreeText("Hi.".into())));
    assert_eq!(parse_native(true, " \n"), (String::new(), ParsedTurn::FreeText(String::new())));
}

#[test]
fn react_of_a_native_model_is_parsed() {
    for has_tools in [true, false] {
        for (text, expected) in samples() {
            let is_marked = text.contains("Final Answer:")
                || text.contains("Action Input:")
                || text.contains("Thought:");
            if is_marked
                && !text.starts_with("Action")
                && !text.starts_with("Observation")
                && !text.starts_with(" need")
                && !text.starts_with("so")
            {
                assert_eq!(parse_native(has_tools, text), expected, "{text:?}");
            }
        }
        let thought =
            "Thought: ".to_owned() + &"long ".repeat(MAX_BUFFERED) + "\nFinal Answer: yes";
        assert_eq!(parse_native(has_tools, &thought), answer("yes"));
    }
    assert_eq!(
        parse_native(true, "Action: issue_reader\nAction Input: #1"),
        action("", "issue_reader", "#1")
    );
}

#[test]
fn endless_white_space_is_not_buffered() {
    let blank = " ".repeat(1000);
    let (answered, turn) =
        parse(std::iter::once("Final Answer: a").chain(std::iter::repeat_n(blank.as_str(), 5)));
    assert_eq!((answered.concat().len(), turn), (1 + 5000, ParsedTurn::Answer));
}
