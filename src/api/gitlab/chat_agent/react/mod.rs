//! A model's turn as text: ReAct's `Thought: … Action: … Action Input: …` or
//! `Thought: … Final Answer: …`, or free words.
//!
//! Read as it arrives, in pieces cut anywhere. What is said does not depend on the cuts. The rules
//! are those of ai-gateway-server.md §4.5; small models' habits (bold markers, quotes, an
//! observation of their own) are allowed for.
//!
//! A model that calls functions speaks freely: words before a call are its thought, words without
//! one the answer. GitLab ignores a call once it has a piece of an answer, so the beginning is held
//! until it is too long to be a thought. Some models write ReAct all the same, and are read so.

use memchr::memmem;

use super::conversation::Way;
use crate::generation::without_thinking;

const FINAL: &[u8] = b"Final Answer:";
const INPUT: &[u8] = b"Action Input:";
/// What the model is stopped at. What it says after it is made up.
pub(super) const STOP: &str = "\nObservation:";
const THOUGHT: &str = "Thought:";
/// Free words are held this long: models say a sentence or two before they call. Bytes.
const HELD: usize = 240;
/// The same of a model that has nothing to call: a marker may still come. Bytes.
const HELD_WITHOUT_TOOLS: usize = 24;
/// White space in the answer is held this long. Bytes.
const MAX_BLANK: usize = 4096;
/// A turn without an answer is held whole; a longer one is cut here. Bytes.
const LONGEST: usize = 1 << 20;

/// What a turn came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The answer, all of which was handed out.
    Answer,
    /// Free words, none of which were.
    Words(String),
    /// A tool is to be called.
    Action(Action),
    /// Neither; the whole text, which may be empty.
    Unknown(String),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// Why.
    pub(super) thought: String,
    /// Which, as GitLab spells it.
    pub(super) tool: String,
    /// With what.
    pub(super) input: String,
}

/// A turn as far as it was read.
#[derive(Debug)]
pub(super) struct Reader {
    /// What was not handed out yet.
    text: String,
    /// How much of it holds no marker that is still to be found.
    seen: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The beginning of free words, up to this length.
    Free(usize),
    /// ReAct, and no answer yet.
    Open,
    /// The same, behind `Action Input:`.
    Called,
    /// An observation that the model made up: nothing more is read.
    Over,
    /// `Final Answer:` was read, nothing of the answer. Whether the marker was bold.
    Opening(bool),
    /// In the answer.
    Answer,
}

impl Reader {
    /// Of a model that is asked in this way.
    pub(super) fn new(way: Way, may_call: bool) -> Self {
        let phase = match way {
            Way::React => Phase::Open,
            Way::Native => Phase::Free(if may_call { HELD } else { HELD_WITHOUT_TOOLS }),
        };
        Self { text: String::new(), seen: 0, phase }
    }

    /// Reads on. What comes back is the next piece of the final answer.
    pub(super) fn feed(&mut self, piece: &str) -> Option<String> {
        self.text.push_str(piece);
        loop {
            let before = self.phase;
            match before {
                Phase::Free(held) => self.judge(held),
                Phase::Open | Phase::Called => self.look(),
                Phase::Over => self.text.truncate(self.seen),
                Phase::Opening(bold) => self.open(bold),
                Phase::Answer => return settled(&mut self.text),
            }
            if self.phase == before {
                return None;
            }
        }
    }

    /// The turn is over.
    pub(super) fn finish(self) -> Turn {
        match self.phase {
            Phase::Answer => Turn::Answer,
            Phase::Free(_) => Turn::Words(self.text.trim_end().to_owned()),
            // the marker and nothing behind it
            Phase::Opening(_) => Turn::Unknown(String::new()),
            Phase::Open | Phase::Called | Phase::Over => action(&self.text)
                .map_or_else(|| Turn::Unknown(unlabelled(&self.text).to_owned()), Turn::Action),
        }
    }

    /// Decides whether free words are ReAct after all, or the answer.
    fn judge(&mut self, held: usize) {
        // white space without end is not held
        self.text.drain(..self.text.len() - self.text.trim_start().len());
        let beginning = &self.text.as_bytes()[..self.text.len().min(held)];
        let has = |marker: &[u8]| memmem::find(beginning, marker).is_some();
        if self.text.trim_start_matches('*').starts_with(THOUGHT) || has(FINAL) || has(INPUT) {
            self.phase = Phase::Open;
        } else if self.text.len() >= held {
            self.phase = Phase::Answer;
        }
    }

    /// Looks for the next marker.
    fn look(&mut self) {
        let text = self.text.as_bytes();
        let found =
            |marker: &[u8]| memmem::find(&text[self.seen..], marker).map(|at| self.seen + at);
        let last = found(FINAL);
        let (other, next) = match self.phase {
            Phase::Called => (found(STOP.as_bytes()), Phase::Over),
            _ => (found(INPUT), Phase::Called),
        };
        match (last, other) {
            (last, Some(other)) if last.is_none_or(|last| other < last) => {
                self.seen = if next == Phase::Over { other } else { other + INPUT.len() };
                self.phase = next;
            }
            (Some(last), _) => {
                let bold = text[..last].ends_with(b"**");
                self.text.drain(..last + FINAL.len());
                self.phase = Phase::Opening(bold);
            }
            (None, _) if text.len() > LONGEST => {
                self.seen = self.text.floor_char_boundary(LONGEST);
                self.phase = Phase::Over;
            }
            // a marker may have begun at the end
            (None, _) => {
                self.seen =
                    self.seen.max(text.len().saturating_sub(FINAL.len().max(STOP.len()) - 1))
            }
        }
    }

    /// Leaves out the white space before the answer, and what makes the marker bold.
    fn open(&mut self, bold: bool) {
        self.text.drain(..self.text.len() - self.text.trim_start().len());
        let start = self.text.as_str();
        let start = match start.strip_prefix("**") {
            Some(rest) if bold => rest.trim_start(),
            None if bold && start == "*" => "",
            _ => start,
        };
        if !start.is_empty() {
            self.text = start.to_owned();
            self.phase = Phase::Answer;
        }
    }
}

/// Takes what can be handed out: white space only once more text follows it, or it is very much.
fn settled(text: &mut String) -> Option<String> {
    let end = text.trim_end().len();
    let rest = if text.len() - end > MAX_BLANK { String::new() } else { text.split_off(end) };
    Some(std::mem::replace(text, rest)).filter(|text| !text.is_empty())
}

/// The first call in a turn.
fn action(text: &str) -> Option<Action> {
    let (before, behind) = text.split_once("Action:")?;
    let (tool, input) = behind.split_once("Action Input:")?;
    // what follows the input is the model's own next step
    let end = ["\nThought:", "\n**Thought:", "\nAction:", "\n**Action:"]
        .iter()
        .filter_map(|step| input.find(step))
        .min();
    let input = &input[..end.unwrap_or(input.len())];
    let input =
        if tool.ends_with("**") { input.trim_start().trim_start_matches("**") } else { input };
    Some(Action {
        thought: thought(&without_thinking(before)),
        tool: tool_name(tool),
        input: unquoted(input.trim()).to_owned(),
    })
}

/// A thought without its label and its bold markers.
fn thought(text: &str) -> String {
    let bare =
        |text: &'_ str| text.trim_matches(|c: char| c == '*' || c.is_whitespace()).to_owned();
    let text = bare(text);
    bare(text.strip_prefix(THOUGHT).unwrap_or(&text)).replace("\\_", "_")
}

/// What is shown as it is, if it is all there is.
fn unlabelled(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix(THOUGHT).map_or(text, str::trim_start)
}

/// GitLab's spelling of a tool's name: `snake_case`, without what small models put around it.
pub(super) fn tool_name(text: &str) -> String {
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

/// Without quotes around the whole.
fn unquoted(text: &str) -> &str {
    let inside = |quote| {
        text.strip_prefix(quote)?.strip_suffix(quote).filter(|inside| !inside.contains(quote))
    };
    ['"', '`', '\''].into_iter().find_map(inside).unwrap_or(text)
}

#[cfg(test)]
mod tests;
