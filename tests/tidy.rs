//! The house rules that no compiler checks: sizes, layers, names, what may stand where. The tree is
//! read as text, so a broken rule is one failure that lists every offender with its line.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, tests not counted.
const MAX_FILE: usize = 600;
/// Longest function, signature and braces counted.
const MAX_FUNCTION: usize = 80;

/// A module may use its own rank and those below it; peers of one rank may know each other.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["command"],
    &["app"],
    &["config", "demo"],
    &["server"],
    &["api"],
    &["snapshot"],
    &["relay", "auth", "credentials"],
    &["upstream", "provider"],
    &["route", "prompt"],
    &["model"],
    &["telemetry"],
    &["error"],
    &["wire", "generation", "docs"],
    &["secret", "refreshed"],
];

/// Modules without I/O and without a clock.
const PURE: &[&str] = &["wire", "generation", "docs", "model", "route", "prompt", "provider"];
const IO_CRATES: &[&str] = &["tokio", "hyper", "hyper_util", "tokio_rustls"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "types", "core", "manager", "misc"];
/// The files that tell one kind of provider from another: the table of profiles, and the one
/// `match` that chooses a dialect.
const PROVIDER_FILES: &[&str] = &["src/model/provider_kind.rs", "src/provider/mod.rs"];
/// Names and marks of vendors' bodies. The relay gets them from the dialect
/// (`provider/markers.rs`).
const VENDORS_WORDS: &[&str] = &[
    "choices",
    "usage",
    "_reason",
    "tool_calls",
    "message_start",
    "message_stop",
    "content_block",
    "[DONE]",
    "base64",
    "\"error\"",
    "\\\"error",
];
/// What `ls` shows.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "benches",
    "config",
    "src",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One source file.
struct Source {
    /// Below the root: `src/wire/sse.rs`.
    path: String,
    /// All of it.
    text: String,
    /// Without test items; line numbers are kept.
    production: String,
    /// `production` with comments and literals blanked.
    code: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = shown.ends_with("/tests.rs") || shown.contains("/tests/");
        let production = if is_test { String::new() } else { without_tests(&text) };
        let code = blank_comments_and_literals(&production);
        Self { path: shown, text, production, code }
    }

    /// `wire` for `src/wire/sse.rs`, `main` for `src/main.rs`.
    fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// How many `super` lead from this file's module to the crate's root.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

fn rust_files(dir: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(dir), &mut paths);
    paths.sort();
    paths.iter().map(|path| Source::read(path)).collect()
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
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
fn without_tests(text: &str) -> String {
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
fn blank_comments_and_literals(text: &str) -> String {
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
fn literal_end(bytes: &[u8], at: usize) -> usize {
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

fn quoted_end(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'x'` is a character, `'x` a lifetime.
fn char_end(rest: &[u8]) -> Option<usize> {
    let width = match *rest.get(1)? {
        byte if byte < 0x80 => 1,
        byte if byte < 0xe0 => 2,
        byte if byte < 0xf0 => 3,
        _ => 4,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands as a whole word.
fn words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let free = |at: usize, len: usize| {
        let before = at.checked_sub(1).is_none_or(|i| !is_word(bytes[i]));
        before && bytes.get(at + len).is_none_or(|b| !is_word(*b))
    };
    text.match_indices(word).map(|(at, _)| at).filter(|at| free(*at, word.len())).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn report(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "\n{rule}:\n  {}\n", offenders.join("\n  "));
}

/// Every top-level module that the file names, with the line: `use crate::…`, inline `crate::x::`,
/// and chains of `super` that reach the crate's root.
fn used_modules(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let root_word = if source.module() == "main" { "weir" } else { "crate" };
    let mut found = Vec::new();
    for at in words(code, root_word) {
        if let Some(rest) = code[at + root_word.len()..].strip_prefix("::") {
            found.extend(first_names(rest).into_iter().map(|name| (line_of(code, at), name)));
        }
    }
    let chain = "super::".repeat(source.depth());
    for (at, _) in code.match_indices(&chain) {
        let outer = code[..at].ends_with("super::")
            || at.checked_sub(1).is_some_and(|i| is_word(code.as_bytes()[i]));
        if !outer && !chain.is_empty() {
            found.extend(
                first_names(&code[at + chain.len()..])
                    .into_iter()
                    .map(|name| (line_of(code, at), name)),
            );
        }
    }
    found
}

/// `a` of `a::b`, or `a` and `c` of `{a::b, c}`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| is_word(*c as u8)).collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut names, mut item) = (0_usize, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.push(name(&std::mem::take(&mut item))),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if !(c == ',' && depth == 0) {
            item.push(c);
        }
    }
    names.push(name(&item));
    names.retain(|name| !name.is_empty());
    names
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

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
            lines.iter().enumerate().filter(|(_, line)| !words(line, "fn").is_empty())
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

#[test]
fn modules_use_only_what_is_below_them() {
    let mut offenders = Vec::new();
    // lib.rs lists the modules; the manual is prose
    let sources =
        rust_files("src").into_iter().filter(|source| !matches!(source.module(), "lib" | "manual"));
    for source in sources {
        let Some(own) = rank(source.module()) else {
            offenders.push(format!(
                "{}: module `{}` has no place in LAYERS",
                source.path,
                source.module()
            ));
            continue;
        };
        for (line, used) in used_modules(&source) {
            match rank(&used) {
                Some(other) if other >= own => {}
                Some(_) => offenders.push(format!(
                    "{}:{line}: `{}` uses `{used}`",
                    source.path,
                    source.module()
                )),
                None => offenders.push(format!("{}:{line}: unknown module `{used}`", source.path)),
            }
        }
    }
    report(
        "a module uses only its own layer and those below (src/lib.rs has the list)",
        &offenders,
    );
}

#[test]
fn the_map_in_lib_rs_is_the_one_enforced_here() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let map = lib.split("```").nth(1).unwrap();
    let named: Vec<String> = words_of(map).filter(|word| word != "text").collect();
    let expected: Vec<String> =
        LAYERS.iter().flat_map(|layer| layer.iter().map(|m| (*m).to_owned())).collect();
    assert_eq!(named, expected);
}

fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

#[test]
fn pure_modules_name_no_runtime() {
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|source| PURE.contains(&source.module())) {
        for word in IO_CRATES {
            let lines = words(&source.code, word).into_iter().map(|at| line_of(&source.code, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {word}", source.path)));
        }
        for clock in ["Instant::now", "SystemTime::now"] {
            let lines = words(&source.code, clock).into_iter().map(|at| line_of(&source.code, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {clock}", source.path)));
        }
    }
    report(
        "wire, generation, docs, route, prompt and provider do no I/O and read no clock",
        &offenders,
    );
}

/// The files that name a variant of `api::Endpoint`: its tables, and the dispatcher.
const ENDPOINT_FILES: &[&str] = &["src/api/endpoint.rs", "src/api/mod.rs"];

/// Returns the lines that name a variant of an enum `Endpoint`, or import its variants: other types
/// of that name have functions, in lower case.
fn endpoint_variants(source: &Source) -> Vec<usize> {
    let names_a_variant = |at: &usize| {
        let rest = source.code[*at..].strip_prefix("Endpoint::");
        rest.is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_uppercase() || "{*".contains(c))
        })
    };
    let found = words(&source.code, "Endpoint").into_iter().filter(names_a_variant);
    found.map(|at| line_of(&source.code, at)).collect()
}

/// Returns how many `match`es and `matches!` the methods of `Endpoint` have.
fn matches_over_endpoint(source: &Source) -> usize {
    let body = source.code.split("impl Endpoint {").nth(1).unwrap_or_default();
    let body = body.split("\n}").next().unwrap_or_default();
    words(body, "match").len() + body.matches("matches!").count()
}

#[test]
fn endpoints_are_matched_in_two_files() {
    let sources = rust_files("src");
    let others = sources.iter().filter(|source| !ENDPOINT_FILES.contains(&source.path.as_str()));
    let offenders: Vec<String> = others
        .flat_map(|source| {
            endpoint_variants(source).into_iter().map(|line| format!("{}:{line}", source.path))
        })
        .collect();
    report("only api/endpoint.rs and api/mod.rs name the variants of api's Endpoint", &offenders);
    let table = sources.iter().find(|source| source.path == ENDPOINT_FILES[0]).unwrap();
    assert_eq!(matches_over_endpoint(table), 1, "Endpoint::row is the only match in its file");
}

#[test]
fn a_match_over_endpoints_elsewhere_is_found() {
    let planted = |text: &str| {
        let code = blank_comments_and_literals(text);
        Source { path: "src/api/body.rs".into(), text: text.into(), production: code.clone(), code }
    };
    let text = "fn a(e: Endpoint) {\n    match e {\n        Endpoint::Head => {}\n        super::Endpoint::Code(_) => \
                {}\n    }\n}\nuse super::Endpoint::{Ready, Healthz};\nuse super::Endpoint::*;\n// Endpoint::Head\n\
                fn b() { upstream::Endpoint::new(); CompletionEndpoint::Chat; \"Endpoint::Head\"; }\n";
    assert_eq!(endpoint_variants(&planted(text)), [3, 4, 7, 8]);
    let twice = "impl Endpoint {\n    fn row(self) { match self { _ => 1 } }\n    fn is_open(self) { matches!(self, \
                 Self::Head) }\n}\nimpl Access {\n    fn a(self) { match self { _ => 1 } }\n}\n";
    assert_eq!(matches_over_endpoint(&planted(twice)), 2);
}

#[test]
fn only_one_file_reads_the_environment() {
    const FILE: &str = "src/config/toml/environment.rs";
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.path != FILE) {
        for at in words(&source.code, "env") {
            let (before, after) = (&source.code[..at], &source.code[at + 3..]);
            let is_module = before.ends_with("std::")
                || after.starts_with("::var")
                || after.starts_with("::temp");
            let is_args = source.module() == "main" && after.starts_with("::args");
            if is_module && !is_args {
                offenders.push(format!("{}:{}", source.path, line_of(&source.code, at)));
            }
        }
    }
    report("only config/toml/environment.rs names std::env (main.rs its args)", &offenders);
}

/// Where code has an `Option<Option<…>>`.
fn nested_options(source: &Source) -> Vec<usize> {
    let is_nested = |at: &usize| {
        let inside = source.code[at + "Option".len()..].strip_prefix('<');
        inside.is_some_and(|inside| inside.trim_start().starts_with("Option<"))
    };
    let found = words(&source.code, "Option").into_iter().filter(is_nested);
    found.map(|at| line_of(&source.code, at)).collect()
}

#[test]
fn no_option_of_option() {
    let mut offenders = Vec::new();
    for source in rust_files("src") {
        let lines = nested_options(&source).into_iter();
        offenders.extend(lines.map(|line| format!("{}:{line}", source.path)));
    }
    report(
        "an enum or a `Result<Option<_>, _>` says what an `Option<Option<_>>` means",
        &offenders,
    );
}

/// Returns the lines on which code names a variant of `ProviderKind`. Constants and functions of the
/// type are allowed everywhere.
fn provider_variants(source: &Source) -> Vec<usize> {
    let kind = "ProviderKind";
    let names_variant = |at: &usize| {
        let rest = source.code[at + kind.len()..].trim_start().strip_prefix("::");
        let mut name = rest.unwrap_or_default().trim_start().chars();
        name.next().is_some_and(|first| first == '{' || first == '*' || first.is_ascii_uppercase())
            && name.next().is_some_and(|second| !second.is_ascii_uppercase())
    };
    words(&source.code, kind)
        .into_iter()
        .filter(names_variant)
        .map(|at| line_of(&source.code, at))
        .collect()
}

#[test]
fn providers_are_matched_in_two_files() {
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|s| !PROVIDER_FILES.contains(&s.path.as_str())) {
        let lines = provider_variants(source).into_iter();
        offenders.extend(lines.map(|line| format!("{}:{line}", source.path)));
    }
    report(
        "only the table of profiles and `provider::dialect` name a kind of provider: ask \
         `ProviderKind::profile()`, or add a column to it",
        &offenders,
    );
}

/// Returns the lines of string literals that contain a word of a vendor's body, with the word.
fn vendors_words(source: &Source) -> Vec<(usize, &'static str)> {
    let bytes = source.production.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        let literal = source.production.get(at..end).unwrap_or_default();
        if !literal.starts_with('/') {
            let words = VENDORS_WORDS.iter().filter(|word| literal.contains(**word));
            found.extend(words.map(|word| (line_of(&source.production, at), *word)));
        }
        at = if end == at { at + 1 } else { end };
    }
    found
}

#[test]
fn relay_names_no_vendors_json_word() {
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.module() == "relay") {
        let words = vendors_words(source).into_iter();
        offenders.extend(words.map(|(line, word)| format!("{}:{line}: {word}", source.path)));
    }
    report("the relay searches for its dialect's markers, not for words of its own", &offenders);
}

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
                words(&source.code, &inline).into_iter().map(|at| line_of(&source.code, at));
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
            let lines = words(&text, mark).into_iter().map(|at| line_of(&text, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {mark}", source.path)));
        }
    }
    report("no marks for later: an issue, or done", &offenders);
}

#[test]
fn the_manuals_tables_name_tests_that_exist() {
    let all: String =
        ["src", "tests"].into_iter().flat_map(rust_files).map(|source| source.text).collect();
    for page in ["threats", "complaints"] {
        let text = fs::read_to_string(root().join(format!("src/manual/{page}.rs"))).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("//! | "));
        let tests = rows.filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
        let named: Vec<&str> = tests.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert!(named.len() > 20, "the table is read: {named:?}");
        let missing = named.iter().filter(|name| !all.contains(&format!("fn {name}()")));
        report(
            &format!("{page}: every row has its test"),
            &missing.map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn every_citation_resolves() {
    let sections = contract_sections();
    let counts: Vec<usize> = sections.values().map(BTreeSet::len).collect();
    assert!(counts.len() >= 3 && counts.iter().all(|count| *count > 20), "{sections:?}");
    let mut offenders = Vec::new();
    for dir in ["src", "tests", "benches", "config"] {
        for (path, text) in texts(dir) {
            let faults = citation_faults(&text, &sections);
            offenders
                .extend(faults.into_iter().map(|(line, fault)| format!("{path}:{line}: {fault}")));
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let faults = citation_faults(&readme, &sections);
    offenders.extend(faults.into_iter().map(|(line, fault)| format!("README.md:{line}: {fault}")));
    report("what is cited stands in src/manual/contract (its mod.rs says how to cite)", &offenders);
}

#[test]
fn a_citation_of_nothing_is_found() {
    let sections = BTreeMap::from([(
        "gitlab_client".to_owned(),
        ["6", "6.1", "11.3"].map(str::to_owned).into_iter().collect(),
    )]);
    // put together here, so that this file is not its own offender
    let page = concat!("contract:", ":gitlab_client");
    let good = format!(
        "//! As sent ({page} §6.1,\n//! §11.3), see {page}\n    # §6.\n/// RFC 9110 §99, {page}.\n"
    );
    assert_eq!(citation_faults(&good, &sections), []);

    let unknown_section = format!("// one\n// {page} §6, §6.9 and RFC 9110 §8\n");
    let unknown_page = format!("{} §6", page.replace("client", "klient"));
    let outside =
        ["gitlab-client", "providers", "config"].map(|name| format!("({name}.{} §6.1)", "md"));
    let fault = |text: &str| citation_faults(text, &sections);
    assert_eq!(fault(&unknown_section), [(2, format!("{page} §6.9 is no section"))]);
    assert_eq!(
        fault(&unknown_page),
        [(1, format!("{} is no page", page.replace("client", "klient")))]
    );
    for text in outside {
        let name = text[1..].split(' ').next().unwrap().to_owned();
        assert_eq!(fault(&text), [(1, format!("{name} is not in the repository"))], "{text}");
    }
    assert_eq!(fault(concat!("see doc/config.", "md or a-config.", "md5")), []);
}

/// The pages of `src/manual/contract`, and the numbers of their headings: `# §6`, `## §6.1 …`.
fn contract_sections() -> BTreeMap<String, BTreeSet<String>> {
    let pages = rust_files("src/manual/contract").into_iter().filter_map(|page| {
        let name = page.path.rsplit('/').next()?.strip_suffix(".rs")?.to_owned();
        let number = |line: &str| {
            let (marks, rest) = line.strip_prefix("//! ")?.split_once(" §")?;
            let number = rest.split(' ').next()?.to_owned();
            marks.chars().all(|c| c == '#').then_some(number)
        };
        Some((name, page.text.lines().filter_map(number).collect()))
    });
    pages.filter(|(name, _)| name != "mod").collect()
}

/// Documents of the house that are not in the repository: nobody can look them up.
const OUTSIDE: [&str; 7] = [
    "gitlab-client",
    "ai-gateway-server",
    "providers",
    "agent-platform",
    "gitlab-19",
    "config",
    "architecture",
];

/// Citations that lead nowhere, each with its line: a page or a section that does not exist, or a
/// document outside of the repository. A list of sections may go on in the next line of a comment.
fn citation_faults(
    text: &str,
    sections: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (at, mark) in text.match_indices(concat!("contract:", ":")) {
        let rest = &text[at + mark.len()..];
        let page: String = rest.chars().take_while(|c| c.is_ascii() && is_word(*c as u8)).collect();
        let Some(known) = sections.get(&page) else {
            faults.push((line_of(text, at), format!("{mark}{page} is no page")));
            continue;
        };
        let missing =
            listed_sections(&rest[page.len()..]).filter(|number| !known.contains(*number));
        faults
            .extend(missing.map(|number| {
                (line_of(text, at), format!("{mark}{page} §{number} is no section"))
            }));
    }
    for name in OUTSIDE {
        let name = format!("{name}.{}", "md");
        let part = |c: char| c.is_ascii_alphanumeric() || "-_/.".contains(c);
        let stands_alone = |at: &usize| {
            !text[..*at].ends_with(part)
                && !text[at + name.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let places = text.match_indices(&name).map(|(at, _)| at).filter(stands_alone);
        faults.extend(
            places.map(|at| (line_of(text, at), format!("{name} is not in the repository"))),
        );
    }
    faults
}

/// `6.1` and `11.3` of ` §6.1,\n//! §11.3 and more`.
fn listed_sections(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let gap = |c: char| c.is_whitespace() || "/!#,".contains(c);
        let after = rest.trim_start_matches(gap).strip_prefix('§')?;
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let (number, tail) = after.split_at(end.unwrap_or(after.len()));
        rest = tail;
        Some(number.trim_end_matches('.'))
    })
}

/// Every file of text below a folder, with its path.
fn texts(dir: &str) -> Vec<(String, String)> {
    let (mut folders, mut found) = (vec![root().join(dir)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let shown = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push((shown, text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_dependency_has_its_reason_in_the_manual() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut named = BTreeSet::new();
    for section in manifest
        .split("\n[")
        .filter(|section| section.split(']').next().unwrap().ends_with("dependencies"))
    {
        for line in section.lines().skip(1).filter(|line| line.contains(" = ")) {
            let name = line.split(' ').next().unwrap();
            let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
            named.insert(format!("//! | `{name}` | {reason} |"));
        }
    }
    let manual = fs::read_to_string(root().join("src/manual/dependencies.rs")).unwrap();
    let rows: BTreeSet<String> =
        manual.lines().filter(|line| line.contains("| `")).map(str::to_owned).collect();
    assert!(
        named.len() > 40 && named.iter().all(|row| !row.ends_with("|  |")),
        "a reason beside each: {named:?}"
    );
    let missing = named.difference(&rows).map(|row| format!("missing: {row}"));
    let gone = rows.difference(&named).map(|row| format!("in the manual only: {row}"));
    report(
        "src/manual/dependencies.rs is Cargo.toml in words",
        &missing.chain(gone).collect::<Vec<_>>(),
    );
}

#[test]
fn the_top_level_is_the_card() {
    let entries = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let shown: BTreeSet<String> =
        entries.filter(|name| !name.starts_with('.') && name != "target").collect();
    let wanted: BTreeSet<String> = TOP_LEVEL.iter().map(|name| (*name).to_owned()).collect();
    let extra = shown.difference(&wanted).map(|name| format!("not wanted: {name}"));
    let missing = wanted.difference(&shown).map(|name| format!("missing: {name}"));
    report("the top level of the repository is fixed", &extra.chain(missing).collect::<Vec<_>>());
}

/// Creates a file of this text, for tests of the rules themselves.
fn planted(text: &str) -> Source {
    let production = without_tests(text);
    let code = blank_comments_and_literals(&production);
    Source { path: "src/wire/sse.rs".into(), text: text.into(), production, code }
}

#[test]
fn a_planted_variant_of_a_provider_is_found() {
    let text = "fn f(k: ProviderKind) -> bool { k == ProviderKind::default() }\n\
                // ProviderKind::Azure\nfn g() { f(crate::model::ProviderKind::Azure) }\n\
                use crate::model::ProviderKind::{self, OpenAi};\nuse ProviderKind::*;\n\
                const ALL: usize = ProviderKind::ALL.len();\n\
                #[cfg(test)]\nmod tests {\n    use ProviderKind::Azure;\n}\n";
    assert_eq!(provider_variants(&planted(text)), [3, 4, 5]);
}

#[test]
fn a_planted_vendors_word_is_found() {
    let text = "//! \"usage\" and [DONE]\nfn f() { find(b\"\\\"usage\\\"\") }\n\
                fn g() { (\"an error\", facts.usage, '\"', \"[DONE]\", b\"\\\"error\\\"\") }\n\
                #[cfg(test)]\nmod tests {\n    const A: &str = \"choices\";\n}\n";
    let found = vendors_words(&planted(text));
    assert_eq!(found, [(2, "usage"), (3, "[DONE]"), (3, "\\\"error")]);
}

#[test]
fn the_reader_of_this_file_reads_rust() {
    let text = "use crate::{a::{x, y}, b};\nfn f<'a>(c: char) { crate::c::g('\\'', \"crate::no\", r#\"crate::\"no\"#) }\n\
                // crate::no\nuse super::super::d::e;\nuse super::own;\n#[cfg(test)]\nmod \
                tests;\nuse crate::f;\n\
                #[cfg(test)]\nmod more {\n    use crate::no;\n}\n";
    let used: Vec<(usize, String)> = used_modules(&planted(text));
    let named: Vec<(usize, &str)> =
        used.iter().map(|(line, name)| (*line, name.as_str())).collect();
    assert_eq!(named, [(1, "a"), (1, "b"), (2, "c"), (8, "f"), (4, "d")]);
    let text = "// Option<Option<u8>>\nfn f(a: Option<Options<u8>>) -> Option<\n    Option<u8>,\n> {}\n\
                fn g() -> Result<Option<u8>, Option<Option<u8>>> {}\n\
                #[cfg(test)]\nmod more {\n    fn h() -> Option<Option<u8>> {}\n}\n";
    assert_eq!(nested_options(&planted(text)), [2, 5], "the planted ones");
}
