//! Reads the tree as text: one [`Source`] per file, with tests, comments and literals blanked where
//! a rule is about code.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One source file.
pub(crate) struct Source {
    /// Below the root: `src/wire/sse.rs`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Without test items; line numbers are kept.
    pub(crate) production: String,
    /// `production` with comments and literals blanked.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = shown.ends_with("/tests.rs") || shown.contains("/tests/");
        let production = if is_test { String::new() } else { without_tests(&text) };
        let code = blank_comments_and_literals(&production);
        Self { path: shown, text, production, code }
    }

    /// `wire` for `src/wire/sse.rs`, `main` for `src/main.rs`.
    pub(crate) fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }
}

pub(crate) fn rust_files(dir: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(dir), &mut paths);
    paths.sort();
    paths.iter().map(|path| Source::read(path)).collect()
}

pub(crate) fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Blanks every `#[cfg(test)]` item that starts in the first column.
pub(crate) fn without_tests(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        out.push('\n');
        for inside in lines.by_ref() {
            out.push('\n');
            if inside == "}" || (inside.ends_with(';') && !inside.starts_with(' ')) {
                break;
            }
        }
    }
    out
}

/// Comments, strings and characters become spaces: what is left is code.
pub(crate) fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8(out).unwrap()
}

/// One past the comment or literal that starts at `at`, or `at` itself.
pub(crate) fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let starts_word = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at
            + rest.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |end| end + 2);
    }
    if starts_word
        && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br"))
    {
        let hashes_at = rest.iter().position(|b| *b == b'r').unwrap_or(0) + 1;
        let hashes = rest[hashes_at..].iter().take_while(|b| **b == b'#').count();
        if rest.get(hashes_at + hashes) == Some(&b'"') {
            let close: Vec<u8> =
                std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let inside = hashes_at + hashes + 1;
            let end = rest[inside..].windows(close.len()).position(|window| window == close);
            return at + end.map_or(rest.len(), |end| inside + end + close.len());
        }
    }
    match rest {
        [b'"', ..] => at + quoted_end(rest, b'"'),
        [b'\'', b'\\', ..] => at + quoted_end(rest, b'\''),
        [b'\'', ..] => char_end(rest).map_or(at, |end| at + end),
        _ => at,
    }
}

pub(crate) fn quoted_end(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'x'` is a character, `'x` a lifetime.
pub(crate) fn char_end(rest: &[u8]) -> Option<usize> {
    let width = match *rest.get(1)? {
        byte if byte < 0x80 => 1,
        byte if byte < 0xe0 => 2,
        byte if byte < 0xf0 => 3,
        _ => 4,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands as a whole word.
pub(crate) fn occurrences(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let free = |at: usize, len: usize| {
        let before = at.checked_sub(1).is_none_or(|i| !is_word(bytes[i]));
        before && bytes.get(at + len).is_none_or(|b| !is_word(*b))
    };
    text.match_indices(word).map(|(at, _)| at).filter(|at| free(*at, word.len())).collect()
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

pub(crate) fn report(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "\n{rule}:\n  {}\n", offenders.join("\n  "));
}

/// Creates a file of this text, for tests of the rules themselves.
pub(crate) fn planted(text: &str) -> Source {
    let production = without_tests(text);
    let code = blank_comments_and_literals(&production);
    Source { path: "src/wire/sse.rs".into(), text: text.into(), production, code }
}
