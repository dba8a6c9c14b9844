//! Names: the field's terms, in identifiers, file names and comments.

use std::collections::BTreeSet;

use super::source::*;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "types", "core", "manager", "misc"];

#[test]
fn names_say_something() {
    let mut offenders = BTreeSet::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let parts = source.path.trim_end_matches(".rs").split('/');
        offenders
            .extend(parts.filter(|part| EMPTY_NAMES.contains(part)).map(|_| source.path.clone()));
        for name in EMPTY_NAMES {
            let inline = format!("mod {name}");
            let lines =
                occurrences(&source.code, &inline).into_iter().map(|at| line_of(&source.code, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {inline}", source.path)));
        }
    }
    report("a module is named for what it does", &offenders.into_iter().collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    // spelled apart, so that this file is not its own offender
    let marks = [concat!("to", "do"), concat!("fix", "me"), concat!("unimple", "mented")];
    let mut offenders = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let text = source.text.to_ascii_lowercase();
        for mark in marks {
            let lines = occurrences(&text, mark).into_iter().map(|at| line_of(&text, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {mark}", source.path)));
        }
    }
    report("no marks for later: an issue, or done", &offenders);
}

/// Words of the private dialect that the field has terms for. None is a segment of an identifier or
/// of a file name.
const DIALECT: &[&str] = &[
    "place", "places", "said", "told", "asked", "way", "words", "standing", "besides", "outlet",
    "door", "pulse", "fresh", "stamped",
];
/// Machines do not speak: none of these is in a comment.
const SPEECH: &[&str] = &["told", "tells", "said", "asked", "whoever", "besides"];

/// Returns the segments of an identifier in lower case: `free_place`, `FreePlace` → free, place.
fn segments(identifier: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut before = '_';
    for c in identifier.chars() {
        let is_start = c.is_ascii_uppercase() && !before.is_ascii_uppercase();
        if c == '_' || is_start {
            segments.push(String::new());
        }
        if c != '_'
            && let Some(segment) = segments.last_mut()
        {
            segment.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// Returns the identifiers with a segment of [`DIALECT`], with their lines.
fn dialect_identifiers(code: &str) -> Vec<(usize, String)> {
    let is_dialect = |name: &str| segments(name).iter().any(|s| DIALECT.contains(&s.as_str()));
    let lines = code.lines().enumerate();
    let identifiers = lines.flat_map(|(at, line)| {
        let names = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        names.map(move |name| (at + 1, name.to_owned()))
    });
    identifiers.filter(|(_, name)| is_dialect(name)).collect()
}

/// Returns the words of [`SPEECH`] in comments, with their lines.
fn speech_in_comments(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
        let comment = comment.to_ascii_lowercase();
        // a table names tests and quotes others' complaints
        if !comment.trim_start_matches(['/', '!', ' ']).starts_with('|') {
            let spoken = SPEECH.iter().filter(|word| !occurrences(&comment, word).is_empty());
            found.extend(spoken.map(|word| (at + 1, *word)));
        }
    }
    found
}

#[test]
fn names_and_comments_are_in_the_fields_terms() {
    let mut offenders = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let path = source.path.trim_end_matches(".rs");
        let file_names = path.split('/').flat_map(segments);
        if file_names.into_iter().any(|segment| DIALECT.contains(&segment.as_str())) {
            offenders.push(format!("{}: the file's name", source.path));
        }
        let code = blank_comments_and_literals(&source.text);
        let names = dialect_identifiers(&code);
        offenders.extend(names.iter().map(|(at, name)| format!("{}:{at}: {name}", source.path)));
        let comments = speech_in_comments(&source.text);
        offenders.extend(comments.iter().map(|(at, word)| format!("{}:{at}: {word}", source.path)));
    }
    report("names and comments use the field's terms", &offenders);
}

#[test]
fn a_planted_word_of_the_dialect_is_found() {
    let code = "fn free_place() {}\nstruct Told;\nlet gateway = refresh(timestamped);\nASKED_FOR\n";
    let found = dialect_identifiers(code);
    let names: Vec<_> = found.iter().map(|(at, name)| (*at, name.as_str())).collect();
    assert_eq!(names, [(1, "free_place"), (2, "Told"), (4, "ASKED_FOR")]);
    // put together here, so that this file is not its own offender
    let comment = format!("let a = 1;\n/// A replica {} its load.\n//! | said |\n", "tells");
    assert_eq!(speech_in_comments(&comment), [(2, "tells")]);
}
