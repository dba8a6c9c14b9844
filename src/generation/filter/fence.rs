//! Markdown around code: prompts request bare code, and models write a fence all the same, often
//! with a line before it ("Here is the code:").

use super::Filter;

/// Filter that removes fences (contract::ai_gateway_server §2.8). A line passes when it is
/// complete; the rest at the end.
///
/// A fence that opens the response, or follows one line of talk, wraps the code: everything before
/// it is removed, and everything from its closing fence on. Fences elsewhere are lines that no code
/// has, and only they are removed.
#[derive(Debug, Default)]
pub struct FenceFilter {
    state: State,
    /// Incomplete line.
    line: String,
}

#[derive(Debug)]
enum State {
    /// No code yet: blank lines and at most one line of talk are buffered.
    Before(String),
    /// After a fence of this many backticks.
    Fenced(usize),
    /// Code without a fence around it.
    Bare,
    /// After the closing fence.
    After,
}

impl Default for State {
    fn default() -> Self {
        Self::Before(String::new())
    }
}

impl Filter for FenceFilter {
    fn feed(&mut self, text: &str, out: &mut String) {
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                self.feed_line(&line, out);
            }
        }
    }

    fn finish(&mut self, out: &mut String) {
        let last = std::mem::take(&mut self.line);
        if !last.is_empty() {
            // the beginning of a closing fence that the model's token limit cut off
            let code =
                if fence(&last).is_some() { last.as_str() } else { last.trim_end_matches('`') };
            let code = if last.len() - code.len() < 3 { &last } else { code };
            self.feed_line(code, out);
        }
        if let State::Before(buffered) = std::mem::replace(&mut self.state, State::After) {
            out.push_str(&buffered);
        }
    }
}

impl FenceFilter {
    fn feed_line(&mut self, line: &str, out: &mut String) {
        let fence = fence(line);
        match (&mut self.state, fence) {
            (State::After, _) | (State::Bare, Some(_)) => {}
            (State::Before(_), Some(ticks)) => self.state = State::Fenced(ticks),
            (State::Fenced(open), Some(ticks)) if ticks >= *open && is_bare(line) => {
                self.state = State::After
            }
            (State::Before(buffered), None) => {
                let has_talk = !buffered.trim().is_empty();
                buffered.push_str(line);
                if has_talk && !line.trim().is_empty() {
                    out.push_str(buffered);
                    self.state = State::Bare;
                }
            }
            (State::Fenced(_) | State::Bare, _) => out.push_str(line),
        }
    }
}

/// Returns how many backticks a fence has: three or more, followed by at most one word. `None` for
/// any other line.
fn fence(line: &str) -> Option<usize> {
    let line = line.trim();
    let info = line.trim_start_matches('`');
    let ticks = line.len() - info.len();
    (ticks >= 3 && !info.contains(char::is_whitespace) && !info.contains('`')).then_some(ticks)
}

fn is_bare(line: &str) -> bool {
    line.trim().bytes().all(|byte| byte == b'`')
}

#[cfg(test)]
mod tests {
    use super::FenceFilter;
    use crate::generation::filter::tests::check;

    fn is(text: &str, expected: &str) {
        check(|| Box::<FenceFilter>::default(), text, expected);
    }

    #[test]
    fn a_fence_around_the_code_is_removed() {
        is("```python\na = 1\n\nb = 2\n```", "a = 1\n\nb = 2\n");
        is("```\na\n```\n", "a\n");
        is("\n```c++\na\n```\nThat adds.\n", "a\n");
        is("```py\na\n", "a\n");
    }

    #[test]
    fn one_line_of_talk_before_it_is_removed_too() {
        is("Here is the code:\n\n```py\na\n```\n", "a\n");
        is("def f():\n    return 1\n", "def f():\n    return 1\n");
        is("a\nb\n```\nc\n", "a\nb\nc\n");
    }

    #[test]
    fn the_content_of_a_longer_fence_stays() {
        is("````md\n```\nx\n```\n````\n", "```\nx\n```\n");
        is("```md\n```sh\nx\n", "```sh\nx\n");
    }

    #[test]
    fn bare_code_loses_stray_fences_only() {
        is("a\nb\n```", "a\nb\n");
        is("a\nb```", "a\nb");
        is("a\nx = `b`", "a\nx = `b`");
        is("  return 1", "  return 1");
        is("\n\n", "\n\n");
        is("", "");
        is("``` not a fence\nb", "``` not a fence\nb");
    }
}
