//! Parses a model's turn as text: ReAct's `Thought: … Action: … Action Input: …` or
//! `Thought: … Final Answer: …`, or free text.
//!
//! The text is parsed as it arrives, in deltas cut anywhere; the result does not depend on the
//! cuts. The rules are those of contract::ai_gateway_server §4.5; small models' habits (bold
//! markers, quotes, an observation of their own) are allowed for.
//!
//! A model that calls functions writes free text: text before a call is its thought, text without a
//! call the answer. GitLab ignores a call once it has a delta of an answer, so the beginning is
//! buffered until it is too long to be a thought. Some of these models write ReAct all the same,
//! which is then parsed as such.

use memchr::memmem;

use super::conversation::ToolProtocol;
use crate::generation::without_thinking;

/// The marker before the answer.
const FINAL_ANSWER: &[u8] = b"Final Answer:";
/// The marker before a tool's input.
const ACTION_INPUT: &[u8] = b"Action Input:";
/// The stop sequence. Text after it is an observation that the model made up.
pub(super) const STOP: &str = "\nObservation:";
/// The label of a thought.
const THOUGHT: &str = "Thought:";
/// Free text is buffered up to this many bytes: models write a sentence or two before they call.
const MAX_BUFFERED: usize = 240;
/// The same for a model without tools, whose text may still contain a marker.
const MAX_BUFFERED_WITHOUT_TOOLS: usize = 24;
/// White space in the answer is buffered up to this many bytes.
const MAX_BLANK: usize = 4096;
/// A turn without an answer is buffered whole, and truncated to this many bytes.
const MAX_TURN: usize = 1 << 20;

/// The result of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParsedTurn {
    /// An answer, all of which [`TurnParser::feed`] has returned.
    Answer,
    /// Free text, none of which it has returned.
    FreeText(String),
    /// A call of a tool.
    Action(Action),
    /// None of these; the whole text, which may be empty.
    Unknown(String),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// The model's reason for the call; may be empty.
    pub(super) thought: String,
    /// The tool's name in GitLab's spelling.
    pub(super) tool: String,
    /// The tool's input.
    pub(super) input: String,
}

/// An incremental parser of one turn.
#[derive(Debug)]
pub(super) struct TurnParser {
    /// The text that has not been returned yet.
    text: String,
    /// The length of the prefix of `text` that needs no further search for markers.
    scanned: usize,
    phase: Phase,
}

/// The position within a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The beginning of free text, which is buffered up to `max_bytes`.
    FreeText { max_bytes: usize },
    /// ReAct before any answer.
    React,
    /// ReAct after `Action Input:`.
    ActionInput,
    /// After the end of the turn, as an observation that the model made up: the rest is dropped.
    Ended,
    /// After `Final Answer:` and before the answer's first text.
    AnswerStart { is_bold: bool },
    /// In the answer.
    Answer,
}

impl TurnParser {
    /// Creates the parser for a model that calls tools by `protocol`, if it has any.
    pub(super) fn new(protocol: ToolProtocol, has_tools: bool) -> Self {
        let max_bytes = if has_tools { MAX_BUFFERED } else { MAX_BUFFERED_WITHOUT_TOOLS };
        let phase = match protocol {
            ToolProtocol::React => Phase::React,
            ToolProtocol::Native => Phase::FreeText { max_bytes },
        };
        Self { text: String::new(), scanned: 0, phase }
    }

    /// Parses the next delta and returns the text to append to the final answer, if there is any.
    pub(super) fn feed(&mut self, delta: &str) -> Option<String> {
        self.text.push_str(delta);
        loop {
            let before = self.phase;
            match before {
                Phase::FreeText { max_bytes } => self.classify_free_text(max_bytes),
                Phase::React | Phase::ActionInput => self.scan_for_marker(),
                Phase::Ended => self.text.truncate(self.scanned),
                Phase::AnswerStart { is_bold } => self.start_answer(is_bold),
                Phase::Answer => return take_visible(&mut self.text),
            }
            if self.phase == before {
                return None;
            }
        }
    }

    /// Ends the turn and returns its result.
    pub(super) fn finish(self) -> ParsedTurn {
        match self.phase {
            Phase::Answer => ParsedTurn::Answer,
            Phase::FreeText { .. } => ParsedTurn::FreeText(self.text.trim_end().to_owned()),
            // the marker and nothing after it
            Phase::AnswerStart { .. } => ParsedTurn::Unknown(String::new()),
            Phase::React | Phase::ActionInput | Phase::Ended => parse_action(&self.text)
                .map_or_else(
                    || ParsedTurn::Unknown(without_label(&self.text).to_owned()),
                    ParsedTurn::Action,
                ),
        }
    }

    /// Decides whether free text is ReAct after all, or the answer, or still undecided.
    fn classify_free_text(&mut self, max_bytes: usize) {
        // leading white space is dropped, so that any amount of it is not buffered
        self.text.drain(..self.text.len() - self.text.trim_start().len());
        let beginning = &self.text.as_bytes()[..self.text.len().min(max_bytes)];
        let has = |marker: &[u8]| memmem::find(beginning, marker).is_some();
        if self.text.trim_start_matches('*').starts_with(THOUGHT)
            || has(FINAL_ANSWER)
            || has(ACTION_INPUT)
        {
            self.phase = Phase::React;
        } else if self.text.len() >= max_bytes {
            self.phase = Phase::Answer;
        }
    }

    /// Searches the new text for the next marker and enters its phase.
    fn scan_for_marker(&mut self) {
        let text = self.text.as_bytes();
        let found = |marker: &[u8]| {
            memmem::find(&text[self.scanned..], marker).map(|offset| self.scanned + offset)
        };
        let answer = found(FINAL_ANSWER);
        let (other, next) = match self.phase {
            Phase::ActionInput => (found(STOP.as_bytes()), Phase::Ended),
            _ => (found(ACTION_INPUT), Phase::ActionInput),
        };
        match (answer, other) {
            (answer, Some(other)) if answer.is_none_or(|answer| other < answer) => {
                let is_end = next == Phase::Ended;
                self.scanned = if is_end { other } else { other + ACTION_INPUT.len() };
                self.phase = next;
            }
            (Some(answer), _) => {
                let is_bold = text[..answer].ends_with(b"**");
                self.text.drain(..answer + FINAL_ANSWER.len());
                self.phase = Phase::AnswerStart { is_bold };
            }
            (None, _) if text.len() > MAX_TURN => {
                self.scanned = self.text.floor_char_boundary(MAX_TURN);
                self.phase = Phase::Ended;
            }
            // a marker may have begun at the end
            (None, _) => {
                let longest_marker = FINAL_ANSWER.len().max(STOP.len());
                self.scanned = self.scanned.max(text.len().saturating_sub(longest_marker - 1));
            }
        }
    }

    /// Drops the white space before the answer and the `**` that closes a bold marker.
    fn start_answer(&mut self, is_bold: bool) {
        self.text.drain(..self.text.len() - self.text.trim_start().len());
        let start = self.text.as_str();
        let start = match start.strip_prefix("**") {
            Some(rest) if is_bold => rest.trim_start(),
            None if is_bold && start == "*" => "",
            _ => start,
        };
        if !start.is_empty() {
            self.text = start.to_owned();
            self.phase = Phase::Answer;
        }
    }
}

/// Takes the text that can be sent, or `None` if there is none. Trailing white space stays until
/// more text follows or it exceeds [`MAX_BLANK`].
fn take_visible(text: &mut String) -> Option<String> {
    let end = text.trim_end().len();
    let rest = if text.len() - end > MAX_BLANK { String::new() } else { text.split_off(end) };
    Some(std::mem::replace(text, rest)).filter(|text| !text.is_empty())
}

/// Parses the first call in a turn; `None` without one.
fn parse_action(text: &str) -> Option<Action> {
    let (before, after) = text.split_once("Action:")?;
    let (tool, input) = after.split_once("Action Input:")?;
    // what follows the input is the model's own next step
    let end = ["\nThought:", "\n**Thought:", "\nAction:", "\n**Action:"]
        .iter()
        .filter_map(|step| input.find(step))
        .min();
    let input = &input[..end.unwrap_or(input.len())];
    let input =
        if tool.ends_with("**") { input.trim_start().trim_start_matches("**") } else { input };
    Some(Action {
        thought: parse_thought(&without_thinking(before)),
        tool: normalize_tool_name(tool),
        input: without_quotes(input.trim()).to_owned(),
    })
}

/// Returns a thought without its label and its bold markers.
fn parse_thought(text: &str) -> String {
    let trim =
        |text: &'_ str| text.trim_matches(|c: char| c == '*' || c.is_whitespace()).to_owned();
    let text = trim(text);
    trim(text.strip_prefix(THOUGHT).unwrap_or(&text)).replace("\\_", "_")
}

/// Returns the text to show for a turn that is neither an answer nor a call: all of it, without the
/// label of a thought.
fn without_label(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix(THOUGHT).map_or(text, str::trim_start)
}

/// Returns a tool's name in GitLab's spelling: `snake_case`, without what small models add around
/// it.
pub(super) fn normalize_tool_name(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '\\');
    let bare = text.split(|c| !is_name(c)).find(|word| !word.is_empty()).unwrap_or_default();
    let mut name = String::with_capacity(bare.len() + 4);
    let mut after_lower = false;
    for c in bare.chars().filter(|c| *c != '\\') {
        if c.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// Removes a pair of quotes around the whole text.
fn without_quotes(text: &str) -> &str {
    let inside = |quote| {
        text.strip_prefix(quote)?.strip_suffix(quote).filter(|inside| !inside.contains(quote))
    };
    ['"', '`', '\''].into_iter().find_map(inside).unwrap_or(text)
}

#[cfg(test)]
mod tests;
