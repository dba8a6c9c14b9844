//! The texts of the demo's model: the same reply to the same question, without a claim to
//! understand it.

/// The longest part of a question that is repeated, in words.
const QUOTED: usize = 30;

/// The mark of the cursor in our prompts for code.
const CURSOR: &str = "<cursor/>";

/// Returns the reply to a chat, made from its last user message; code if that has a cursor.
pub(super) fn reply(question: &str) -> String {
    if let Some((before, _)) = question.split_once(CURSOR) {
        return continuation(before).to_owned();
    }
    let mut rest = question.split_whitespace();
    let mut quoted = rest.by_ref().take(QUOTED).collect::<Vec<_>>().join(" ");
    if rest.next().is_some() {
        quoted.push_str(" …");
    }
    format!("You said: \"{quoted}\". This is Weir's demo model: it repeats, it does not think.")
}

/// Returns the continuation of a prompt, chosen by how the prompt ends.
pub(super) fn continuation(prompt: &str) -> &'static str {
    match prompt.trim_end().chars().next_back() {
        Some(':') => "\n    pass  # Weir's demo model writes no more than this",
        Some('{') => "\n    // Weir's demo model writes no more than this\n}",
        Some('(' | ',') => "value) # Weir's demo model writes no more than this",
        _ => " and so on: Weir's demo model continues every text like this.",
    }
}

/// Splits a text into the demo's tokens: words, each with the white space before it. Concatenated
/// they are the text.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace).map_or(rest.len(), |end| word + end);
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

/// Returns a vector of length one that depends on every byte of the text; similar texts do not get
/// similar vectors.
pub(super) fn embedding(text: &str) -> Vec<f64> {
    const DIMENSIONS: u64 = 8;
    let component = |seed: u64| {
        // FNV-1a
        let hash =
            text.bytes().chain(seed.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        f64::from((hash >> 32) as u32) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    let vector: Vec<f64> = (0..DIMENSIONS).map(component).collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    vector.into_iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::{embedding, reply, tokens};

    #[test]
    fn tokens_concatenate_to_the_text() {
        for text in ["one two  three", "\n    pass  # x\n", " ", "", "é …\u{3000}ü"] {
            assert_eq!(tokens(text).concat(), text);
        }
        assert_eq!(tokens("one two\n three"), ["one", " two", "\n three"]);
    }

    #[test]
    fn long_questions_are_truncated() {
        let text = reply(&"word ".repeat(31));
        assert!(
            text.starts_with("You said: \"word word") && text.contains("word …\". This is"),
            "{text}"
        );
        assert!(reply("Hello\n there").starts_with("You said: \"Hello there\". This"));
    }

    #[test]
    fn code_continues_from_the_cursor() {
        assert!(reply("File: a.py\ndef a():<cursor/>\nx").starts_with("\n    pass"));
    }

    #[test]
    fn embeddings_have_length_one_and_differ() {
        let (a, b) = (embedding("a"), embedding("b"));
        assert!((a.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_ne!(a, b);
        assert_eq!(a, embedding("a"));
    }
}
