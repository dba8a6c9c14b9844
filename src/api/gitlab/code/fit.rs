//! What of a file fits into a model's window. Without the model's tokenizer: bytes stand for
//! tokens, on the safe side.

/// Bytes of a token, times two: code has 3 to 4 bytes a token with today's tokenizers, 2.9 with
/// Llama 2's, and a character of Chinese has 3 bytes and at most about 1.5 tokens. So 2.5 rarely
/// promises too little room.
const HALF_BYTES_PER_TOKEN: usize = 5;
/// Of the room, how many percent the text behind the cursor may have (ai-gateway-server.md §2.7).
const BELOW_PERCENT: usize = 7;
/// A cut looks for a line's end within this many bytes.
const LINE: usize = 512;

/// An estimate, never too small for ordinary code.
pub(super) const fn tokens(bytes: usize) -> usize {
    (bytes * 2).div_ceil(HALF_BYTES_PER_TOKEN)
}

/// The bytes that certainly fit.
pub(super) const fn bytes(tokens: usize) -> usize {
    tokens.saturating_mul(HALF_BYTES_PER_TOKEN) / 2
}

/// The text around the cursor, cut to `room` bytes together: the end of what is above, the
/// beginning of what is below. Room that one of them does not need is the other's.
pub(super) fn around<'a>(above: &'a str, below: &'a str, room: usize) -> (&'a str, &'a str) {
    let share = (room * BELOW_PERCENT / 100).max(room.saturating_sub(above.len()));
    let below = head(below, share);
    (tail(above, room - below.len()), below)
}

/// Whole items in their order, the last one cut, until `room` bytes are full; each ends its own
/// line.
pub(super) fn context<'a>(items: impl Iterator<Item = &'a str>, room: usize) -> String {
    let mut out = String::new();
    for item in items.filter(|item| !item.is_empty()) {
        let left = room.saturating_sub(out.len() + 1);
        let fitting = head(item, left);
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

/// The last bytes of a text, from a line's start if one is near.
fn tail(text: &str, room: usize) -> &str {
    if text.len() <= room {
        return text;
    }
    let mut at = text.len() - room;
    while !text.is_char_boundary(at) {
        at += 1;
    }
    let cut = &text[at..];
    match cut.find('\n').filter(|end| *end < LINE.min(cut.len() / 4)) {
        // a cut right behind a line's end is one already
        Some(end) if !text[..at].ends_with('\n') => &cut[end + 1..],
        _ => cut,
    }
}

/// The first bytes of a text, to a line's end if one is near.
pub(super) fn head(text: &str, room: usize) -> &str {
    if text.len() <= room {
        return text;
    }
    let mut at = room;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let cut = &text[..at];
    match cut.rfind('\n').filter(|end| cut.len() - end <= LINE.min(cut.len() / 4)) {
        Some(end) => &cut[..=end],
        None => cut,
    }
}

#[cfg(test)]
mod tests {
    use super::{around, bytes, context, tokens};

    #[test]
    fn what_fits_is_not_cut() {
        assert_eq!(around("abc", "def", 6), ("abc", "def"));
        assert_eq!(around("", "", 0), ("", ""));
        for n in [0, 1, 7, 1000] {
            assert!(tokens(bytes(n)) <= n, "{n}");
        }
    }

    #[test]
    fn room_is_shared_and_what_one_leaves_is_the_others() {
        let (a, b) = ("a".repeat(1000), "b".repeat(1000));
        let sizes = |above, below, room| {
            let (above, below) = around(above, below, room);
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
        let (above, _) = around(&above, "", 100);
        assert!(above.starts_with("line ") && above.ends_with("line 99\n"), "{above}");
        let below: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let (_, below) = around("", &below, 100);
        assert!(
            below.starts_with("line 0\n") && below.ends_with('\n') && below.len() > 75,
            "{below}"
        );
        for room in 0..20 {
            let (above, below) = around("äöü€😀äöü", "äöü€😀äöü", room);
            assert!(above.len() + below.len() <= room);
            assert!("äöü€😀äöü".ends_with(above) && "äöü€😀äöü".starts_with(below));
        }
    }

    #[test]
    fn context_is_taken_while_it_fits() {
        assert_eq!(context(["one", "", "two"].into_iter(), 100), "one\ntwo\n");
        assert_eq!(context(["one", "two"].into_iter(), 6), "one\nt\n");
        assert_eq!(context(["one", "two"].into_iter(), 4), "one\n");
        assert_eq!(context(["one"].into_iter(), 0), "");
    }
}
