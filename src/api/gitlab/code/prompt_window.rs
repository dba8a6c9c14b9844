//! The part of a file and its context that fits into a model's window. Without the model's
//! tokenizer: tokens are estimated from bytes, on the safe side.

/// Bytes per token, times two: code has 3 to 4 bytes per token with today's tokenizers, 2.9 with
/// Llama 2's, and a Chinese character has 3 bytes and at most about 1.5 tokens. So 2.5 rarely
/// underestimates the tokens.
const HALF_BYTES_PER_TOKEN: usize = 5;
/// The share of the window, in percent, for the text below the cursor
/// (contract::ai_gateway_server §2.7).
const BELOW_PERCENT: usize = 7;
/// A cut moves to the end of a line that is at most this many bytes away.
const MAX_LINE_SEARCH: usize = 512;

/// The code around the cursor and the context, truncated to the model's window.
pub(super) struct PromptWindow<'a> {
    /// The context, then the text above the cursor.
    pub(super) above: String,
    pub(super) below: &'a str,
    /// Estimated tokens of the context in `above`.
    pub(super) context_tokens: usize,
}

impl<'a> PromptWindow<'a> {
    /// Fills `max_bytes` with the text around the cursor first; the context gets the rest.
    pub(super) fn new(
        above: &'a str,
        below: &'a str,
        context: impl Iterator<Item = &'a str>,
        max_bytes: usize,
    ) -> Self {
        let (above, below) = truncate_around(above, below, max_bytes);
        let context = truncate_context(context, max_bytes - above.len() - below.len());
        let context_tokens = estimate_tokens(context.len());
        Self { above: context + above, below, context_tokens }
    }
}

/// Estimates the tokens of a text of this many bytes; never too few for ordinary code.
pub(super) const fn estimate_tokens(bytes: usize) -> usize {
    (bytes * 2).div_ceil(HALF_BYTES_PER_TOKEN)
}

/// Returns the bytes that certainly fit into this many tokens.
pub(super) const fn bytes_within(tokens: usize) -> usize {
    tokens.saturating_mul(HALF_BYTES_PER_TOKEN) / 2
}

/// Truncates the text around the cursor to `max_bytes` together: the end of the text above, the
/// beginning of the text below. Bytes that one side does not need go to the other.
pub(super) fn truncate_around<'a>(
    above: &'a str,
    below: &'a str,
    max_bytes: usize,
) -> (&'a str, &'a str) {
    let share = (max_bytes * BELOW_PERCENT / 100).max(max_bytes.saturating_sub(above.len()));
    let below = truncate_end(below, share);
    (truncate_start(above, max_bytes - below.len()), below)
}

/// Concatenates items in their order until `max_bytes` are full; the last one may be truncated.
/// Each is followed by a line end.
fn truncate_context<'a>(items: impl Iterator<Item = &'a str>, max_bytes: usize) -> String {
    let mut out = String::new();
    for item in items.filter(|item| !item.is_empty()) {
        let left = max_bytes.saturating_sub(out.len() + 1);
        let fitting = truncate_end(item, left);
        if fitting.is_empty() {
            break;
        }
        out.push_str(fitting);
        out.push('\n');
        if fitting.len() < item.len() {
            break;
        }
    }
    out
}

/// Returns at most the last `max_bytes` of a text, from the start of a line if one is near.
fn truncate_start(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        return text;
    }
    let mut start = text.len() - max_bytes;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let cut = &text[start..];
    match cut.find('\n').filter(|end| *end < MAX_LINE_SEARCH.min(cut.len() / 4)) {
        // a cut right after a line's end starts at a line already
        Some(end) if !text[..start].ends_with('\n') => &cut[end + 1..],
        _ => cut,
    }
}

/// Returns at most the first `max_bytes` of a text, up to the end of a line if one is near.
fn truncate_end(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        return text;
    }
    let mut end = max_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = &text[..end];
    match cut.rfind('\n').filter(|end| cut.len() - end <= MAX_LINE_SEARCH.min(cut.len() / 4)) {
        Some(end) => &cut[..=end],
        None => cut,
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes_within, estimate_tokens, truncate_around, truncate_context};

    #[test]
    fn texts_that_fit_are_not_truncated() {
        assert_eq!(truncate_around("abc", "def", 6), ("abc", "def"));
        assert_eq!(truncate_around("", "", 0), ("", ""));
        for n in [0, 1, 7, 1000] {
            assert!(estimate_tokens(bytes_within(n)) <= n, "{n}");
        }
    }

    #[test]
    fn bytes_that_one_side_does_not_need_go_to_the_other() {
        let (a, b) = ("a".repeat(1000), "b".repeat(1000));
        let sizes = |above, below, max_bytes| {
            let (above, below) = truncate_around(above, below, max_bytes);
            (above.len(), below.len())
        };
        assert_eq!(sizes(&a, &b, 100), (93, 7));
        assert_eq!(sizes(&a, "", 100), (100, 0));
        assert_eq!(sizes(&a, "bb", 100), (98, 2));
        assert_eq!(sizes("aaa", &b, 100), (3, 97));
        assert_eq!(sizes(&a, &b, 0), (0, 0));
    }

    #[test]
    fn cuts_prefer_lines_and_keep_characters_whole() {
        let above: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let (above, _) = truncate_around(&above, "", 100);
        assert!(above.starts_with("line ") && above.ends_with("line 99\n"), "{above}");
        let below: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let (_, below) = truncate_around("", &below, 100);
        assert!(
            below.starts_with("line 0\n") && below.ends_with('\n') && below.len() > 75,
            "{below}"
        );
        for max_bytes in 0..20 {
            let (above, below) = truncate_around("äöü€😀äöü", "äöü€😀äöü", max_bytes);
            assert!(above.len() + below.len() <= max_bytes);
            assert!("äöü€😀äöü".ends_with(above) && "äöü€😀äöü".starts_with(below));
        }
    }

    #[test]
    fn context_is_truncated_to_the_rest() {
        assert_eq!(truncate_context(["one", "", "two"].into_iter(), 100), "one\ntwo\n");
        assert_eq!(truncate_context(["one", "two"].into_iter(), 6), "one\nt\n");
        assert_eq!(truncate_context(["one", "two"].into_iter(), 4), "one\n");
        assert_eq!(truncate_context(["one"].into_iter(), 0), "");
    }
}
