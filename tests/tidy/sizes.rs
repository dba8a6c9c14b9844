//! Sizes: files, functions, comments; and what a file begins and ends with.

use super::source::*;

/// Longest file, tests not counted.
const MAX_FILE: usize = 600;

/// Longest function, signature and braces counted.
const MAX_FUNCTION: usize = 80;

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |source: &&Source| {
        !source.text.starts_with("//! ") || source.text.lines().next().unwrap().len() < 20
    };
    let offenders: Vec<String> =
        rust_files("src").iter().filter(silent).map(|source| source.path.clone()).collect();
    report("the first line of a file is `//!` and a sentence", &offenders);
}

#[test]
fn files_are_short() {
    let sources = rust_files("src");
    let long = sources.iter().filter_map(|source| {
        let lines = source.production.trim_end().lines().count();
        (lines > MAX_FILE).then(|| format!("{}: {lines}", source.path))
    });
    report(
        &format!("at most {MAX_FILE} lines a file, tests not counted"),
        &long.collect::<Vec<_>>(),
    );
}

#[test]
fn functions_are_short() {
    let mut offenders = Vec::new();
    for source in rust_files("src") {
        let lines: Vec<&str> = source.code.lines().collect();
        for (start, line) in
            lines.iter().enumerate().filter(|(_, line)| !occurrences(line, "fn").is_empty())
        {
            let indent = &line[..line.len() - line.trim_start().len()];
            let close = format!("{indent}}}");
            let body = lines[start..]
                .iter()
                .position(|l| l.ends_with('{') || l.ends_with(';') || l.ends_with('}'));
            if body.is_none_or(|body| !lines[start + body].ends_with('{')) {
                continue;
            }
            let length = lines[start..].iter().position(|l| *l == close).map_or(0, |end| end + 1);
            if length > MAX_FUNCTION {
                offenders.push(format!("{}:{}: {length} lines", source.path, start + 1));
            }
        }
    }
    report(&format!("at most {MAX_FUNCTION} lines a function"), &offenders);
}

#[test]
fn tests_stand_last() {
    let mut offenders = Vec::new();
    for source in rust_files("src") {
        let mut lines =
            source.text.lines().enumerate().skip_while(|(_, line)| *line != "#[cfg(test)]");
        lines.next();
        let is_block = lines.next().is_some_and(|(_, line)| line.ends_with('{'));
        let after =
            lines.skip_while(|(_, line)| *line != "}").skip(1).find(|(_, line)| !line.is_empty());
        if let Some((at, _)) = after.filter(|_| is_block) {
            offenders.push(format!("{}:{}", source.path, at + 1));
        }
    }
    report("nothing follows a file's tests", &offenders);
}
