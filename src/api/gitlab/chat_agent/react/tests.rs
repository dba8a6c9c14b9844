//! Every sample, cut at every place.

use super::{Action, HELD, Reader, Turn, Way};

/// A turn read in these pieces: the answer as it was handed out, and what the turn came to.
fn read_as<'a>(
    mut reader: Reader,
    pieces: impl IntoIterator<Item = &'a str>,
) -> (Vec<String>, Turn) {
    let said = pieces.into_iter().filter_map(|piece| reader.feed(piece)).collect();
    (said, reader.finish())
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (Vec<String>, Turn) {
    read_as(Reader::new(Way::React, true), pieces)
}

fn action(thought: &str, tool: &str, input: &str) -> (String, Turn) {
    (
        String::new(),
        Turn::Action(Action { thought: thought.into(), tool: tool.into(), input: input.into() }),
    )
}

fn answer(text: &str) -> (String, Turn) {
    (text.into(), Turn::Answer)
}

fn unknown(text: &str) -> (String, Turn) {
    (String::new(), Turn::Unknown(text.into()))
}

/// What a model says, and what it means.
fn samples() -> Vec<(&'static str, (String, Turn))> {
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
fn a_turn_is_what_it_means() {
    for (text, meant) in samples() {
        let (said, turn) = read([text]);
        assert_eq!((said.concat(), turn), meant, "{text:?}");
    }
}

#[test]
fn cuts_change_nothing() {
    for (text, meant) in samples() {
        let places: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        for first in &places {
            for second in places.iter().filter(|second| *second >= first) {
                let (said, turn) =
                    read([&text[..*first], &text[*first..*second], &text[*second..]]);
                assert_eq!((said.concat(), turn), meant, "{text:?} cut at {first} and {second}");
            }
        }
        let (said, turn) = read(text.split_inclusive(|_| true));
        assert_eq!((said.concat(), turn), meant, "{text:?} by characters");
        assert!(!said.iter().any(String::is_empty), "{said:?}");
    }
}

/// Anything a model might say, in any order, cut anywhere.
#[test]
fn no_order_of_markers_depends_on_the_cuts() {
    const WORDS: [&str; 14] = [
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
        let text: String = (0..1 + below(12)).map(|_| WORDS[below(WORDS.len())]).collect();
        let (said, turn) = read([text.as_str()]);
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let at = rest.ceil_char_boundary((1 + below(6)).min(rest.len()));
            pieces.push(&rest[..at]);
            rest = &rest[at..];
        }
        let (cut, turn_of_cut) = read(pieces.iter().copied());
        assert_eq!((said.concat(), turn), (cut.concat(), turn_of_cut), "{pieces:?}");
    }
}

#[test]
fn an_answer_is_handed_out_as_it_comes() {
    let (said, _) = read(["Thought: a\nFinal", " Answer: It", " is ", "a fake", " answer.\n"]);
    assert_eq!(said, ["It", " is", " a fake", " answer."]);
}

#[test]
fn a_turn_without_end_is_cut() {
    let piece = "x".repeat(64 << 10);
    let (said, turn) = read(std::iter::repeat_n(piece.as_str(), 40));
    assert!(said.is_empty());
    assert!(matches!(turn, Turn::Unknown(text) if text.len() == super::LONGEST));
}

/// A native model's turn, the same however it is cut in two.
fn free(may_call: bool, text: &str) -> (String, Turn) {
    let read = |pieces: &[&str]| {
        let (said, turn) = read_as(Reader::new(Way::Native, may_call), pieces.iter().copied());
        (said.concat(), turn)
    };
    let whole = read(&[text]);
    for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
        assert_eq!(read(&[&text[..at], &text[at..]]), whole, "{text:?} cut at {at}");
    }
    let characters: Vec<&str> = text.split_inclusive(|_| true).collect();
    assert_eq!(read(&characters), whole, "{text:?} by characters");
    whole
}

#[test]
fn short_free_words_are_held_and_long_ones_are_the_answer() {
    assert_eq!(free(true, " Let me look.\n"), (String::new(), Turn::Words("Let me look.".into())));
    let long = format!("\n{} end. ", "é".repeat(HELD));
    assert_eq!(free(true, &long), answer(long.trim()));
    let without_tools = "I know this without any tool. ";
    assert_eq!(free(false, without_tools), answer(without_tools.trim()));
    assert_eq!(free(false, "Hi."), (String::new(), Turn::Words("Hi.".into())));
    assert_eq!(free(true, " \n"), (String::new(), Turn::Words(String::new())));
}

#[test]
fn a_native_model_that_writes_react_is_read_so() {
    for may_call in [true, false] {
        for (text, meant) in samples() {
            let is_marked = text.contains("Final Answer:")
                || text.contains("Action Input:")
                || text.contains("Thought:");
            if is_marked
                && !text.starts_with("Action")
                && !text.starts_with("Observation")
                && !text.starts_with(" need")
                && !text.starts_with("so")
            {
                assert_eq!(free(may_call, text), meant, "{text:?}");
            }
        }
        let thought = "Thought: ".to_owned() + &"long ".repeat(HELD) + "\nFinal Answer: yes";
        assert_eq!(free(may_call, &thought), answer("yes"));
    }
    assert_eq!(
        free(true, "Action: issue_reader\nAction Input: #1"),
        action("", "issue_reader", "#1")
    );
}

#[test]
fn white_space_without_end_is_not_held() {
    let blank = " ".repeat(1000);
    let (said, turn) =
        read(std::iter::once("Final Answer: a").chain(std::iter::repeat_n(blank.as_str(), 5)));
    assert_eq!((said.concat().len(), turn), (1 + 5000, Turn::Answer));
}
