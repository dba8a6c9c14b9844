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
                phrase(&source.code, &inline).into_iter().map(|at| line_of(&source.code, at));
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
            let lines = phrase(&text, mark).into_iter().map(|at| line_of(&text, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {mark}", source.path)));
        }
    }
    report("no marks for later: an issue, or done", &offenders);
}
