//! What the demo's model says: the same answer to the same question, and no claim to understand it.

/// The longest part of a question that is said back, in words.
const QUOTED: usize = 30;

/// Where our prompts for code put the cursor.
const CURSOR: &str = "<cursor/>";

/// The answer to a chat, built from its last user message; code where it asks for code.
pub(super) fn answer(question: &str) -> String {
    if let Some((before, _)) = question.split_once(CURSOR) {
        return continuation(before).to_owned();
    }
    let mut words = question.split_whitespace();
    let mut quoted = words.by_ref().take(QUOTED).collect::<Vec<_>>().join(" ");
    if words.next().is_some() {
        quoted.push_str(" …");
    }
    format!("You said: \"{quoted}\". This is Weir's demo model: it repeats, it does not think.")
}

/// What follows a prompt: the shape of a continuation, by how the prompt ends.
pub(super) fn continuation(prompt: &str) -> &'static str {
    match prompt.trim_end().chars().next_back() {
        Some(':') => "\n    pass  # Weir's demo model writes no more than this",
        Some('{') => "\n    // Weir's demo model writes no more than this\n}",
        Some('(' | ',') => "value) # Weir's demo model writes no more than this",
        _ => " and so on: Weir's demo model continues every text like this.",
    }
}

/// The demo's tokens: words, each with the white space before it. Together they are the text.
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

/// A vector of length one that depends on every byte of the text; near texts are not near here.
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
    use super::{answer, embedding, tokens};

    #[test]
    fn tokens_are_the_text() {
        for text in ["one two  three", "\n    pass  # x\n", " ", "", "é …\u{3000}ü"] {
            assert_eq!(tokens(text).concat(), text);
        }
        assert_eq!(tokens("one two\n three"), ["one", " two", "\n three"]);
    }

    #[test]
    fn long_questions_are_cut() {
        let said = answer(&"word ".repeat(31));
        assert!(
            said.starts_with("You said: \"word word") && said.contains("word …\". This is"),
            "{said}"
        );
        assert!(answer("Hello\n there").starts_with("You said: \"Hello there\". This"));
    }

    #[test]
    fn code_goes_on_from_the_cursor() {
        assert!(answer("File: a.py\ndef a():<cursor/>\nx").starts_with("\n    pass"));
    }

    #[test]
    fn embeddings_have_length_one_and_differ() {
        let (a, b) = (embedding("a"), embedding("b"));
        assert!((a.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_ne!(a, b);
        assert_eq!(a, embedding("a"));
    }
}
