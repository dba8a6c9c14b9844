//! Text → its search terms: lower case, without stop words, English endings stripped.

use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

/// The longest term in bytes; longer words are hashes and encoded data.
const MAX_TERM: usize = 40;

/// Words too common to select a section, sorted.
const STOPWORDS: &[&str] = &[
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "could", "do",
    "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its",
    "me", "my", "no", "not", "of", "on", "or", "our", "should", "so", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "to", "us", "was", "we", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
];

/// Calls `emit` with each term, in the order of the text.
pub(super) fn for_each(text: &str, mut emit: impl FnMut(&str)) {
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if word.is_ascii() {
            english(word, &mut emit);
        } else {
            foreign(word, &mut emit);
        }
    }
}

fn english(word: &str, emit: &mut impl FnMut(&str)) {
    static STEMMER: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));
    let word = word.to_ascii_lowercase();
    if word.len() <= MAX_TERM && STOPWORDS.binary_search(&word.as_str()).is_err() {
        emit(&STEMMER.stem(&word));
    }
}

/// Splits a word that is not ASCII. Languages without spaces between words are indexed by pairs of
/// characters, the others by whole words.
fn foreign(word: &str, emit: &mut impl FnMut(&str)) {
    let word = word.to_lowercase();
    let mut run: Vec<(usize, char)> = Vec::new();
    let mut start = 0;
    let mut flush_spaced = |text: &str| {
        if !text.is_empty() && text.len() <= 4 * MAX_TERM {
            emit(text);
        }
    };
    let chars: Vec<(usize, char)> = word.char_indices().collect();
    for (at, c) in chars.iter().copied().chain([(word.len(), ' ')]) {
        if is_unspaced(c) {
            if run.is_empty() {
                flush_spaced(&word[start..at]);
            }
            run.push((at, c));
            continue;
        }
        if !run.is_empty() {
            pairs(&word, &run, at, &mut flush_spaced);
            run.clear();
            start = at;
        }
    }
    flush_spaced(&word[start.min(word.len())..]);
}

fn pairs(word: &str, run: &[(usize, char)], end: usize, emit: &mut impl FnMut(&str)) {
    if let [(at, _)] = run {
        emit(&word[*at..end]);
    }
    for pair in run.windows(2) {
        let [(from, _), (last, c)] = pair else { continue };
        emit(&word[*from..last + c.len_utf8()]);
    }
}

/// Returns whether a character is Han, Hiragana, Katakana or Hangul.
const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}')
}

#[cfg(test)]
mod tests {
    use super::{STOPWORDS, for_each};

    fn terms(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        for_each(text, |term| all.push(term.to_owned()));
        all
    }

    #[test]
    fn all_forms_of_a_word_are_found() {
        assert_eq!(terms("How do I protect my branches?"), terms("Protected branch"));
        assert_eq!(
            terms(".gitlab-ci.yml `allow_failure`"),
            ["gitlab", "ci", "yml", "allow", "failur"]
        );
        assert_eq!(terms("the of is"), [] as [&str; 0]);
        assert_eq!(terms(&"x".repeat(41)), [] as [&str; 0]);
    }

    #[test]
    fn other_scripts_are_found_too() {
        assert_eq!(terms("Änderung"), ["änderung"]);
        assert_eq!(terms("保護ブランチ"), ["保護", "護ブ", "ブラ", "ラン", "ンチ"]);
        assert_eq!(terms("字 CIの設定é"), ["字", "ci", "の設", "設定", "é"]);
    }

    #[test]
    fn the_list_is_in_order() {
        assert!(STOPWORDS.is_sorted());
    }
}
