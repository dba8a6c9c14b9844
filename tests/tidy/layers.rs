//! Layers: which module may use which, and the circles that must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::source::*;

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

/// Returns every top-level module that the file names, with the line: `use crate::…`, inline
/// `crate::x::`, and chains of `super` that reach the crate's root.
fn used_modules(source: &Source) -> Vec<(usize, String)> {
    let from_root = named_paths(source).into_iter().filter(|path| path.is_from_root);
    let mut used: Vec<_> =
        from_root.filter_map(|path| Some((path.line, path.segments.into_iter().next()?))).collect();
    // a group may name several items of one module
    used.dedup();
    used
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
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
    let named: Vec<String> = names_of(map).filter(|word| word != "text").collect();
    let expected: Vec<String> =
        LAYERS.iter().flat_map(|layer| layer.iter().map(|m| (*m).to_owned())).collect();
    assert_eq!(named, expected);
}

fn names_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

#[test]
fn pure_modules_name_no_runtime() {
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|source| PURE.contains(&source.module())) {
        for word in IO_CRATES {
            let lines =
                occurrences(&source.code, word).into_iter().map(|at| line_of(&source.code, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {word}", source.path)));
        }
        for clock in ["Instant::now", "SystemTime::now"] {
            let lines =
                occurrences(&source.code, clock).into_iter().map(|at| line_of(&source.code, at));
            offenders.extend(lines.map(|line| format!("{}:{line}: {clock}", source.path)));
        }
    }
    report(
        "wire, generation, docs, route, prompt and provider do no I/O and read no clock",
        &offenders,
    );
}

#[test]
fn only_one_file_reads_the_environment() {
    const FILE: &str = "src/config/toml/environment.rs";
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.path != FILE) {
        for at in occurrences(&source.code, "env") {
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
}

/// Returns the path of a file's module from the crate's root.
fn module_path(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
}

/// A path that the code of a file names.
struct NamedPath {
    line: usize,
    /// Whether it is written from the crate's root: `crate::a`, or `super::a` in a file just below.
    is_from_root: bool,
    /// Its segments from the crate's root.
    segments: Vec<String>,
}

/// Returns every path that the code of a file names by `crate` or `super`, groups expanded.
fn named_paths(source: &Source) -> Vec<NamedPath> {
    let own = module_path(&source.path);
    let code = &source.code;
    let root = if source.module() == "main" { "weir::" } else { "crate::" };
    let mut found = Vec::new();
    for (head, base) in [(root, 0), ("super::", 1)] {
        for (at, _) in code.match_indices(head) {
            let before = code[..at].bytes().next_back().unwrap_or(b' ');
            if is_word(before) || before == b':' {
                continue;
            }
            let mut rest = &code[at + head.len()..];
            let mut depth = base;
            while let Some(outer) = rest.strip_prefix("super::") {
                (rest, depth) = (outer, depth + 1);
            }
            let prefix = if base == 0 { &[][..] } else { &own[..own.len().saturating_sub(depth)] };
            let mut paths = Vec::new();
            expand(rest, prefix.to_vec(), &mut paths);
            let (line, is_from_root) = (line_of(code, at), prefix.is_empty());
            found.extend(paths.into_iter().map(|segments| NamedPath {
                line,
                is_from_root,
                segments,
            }));
        }
    }
    found
}

/// Expands `a::{b, c::d}` below `prefix` into `found`; returns what follows it.
fn expand<'t>(text: &'t str, prefix: Vec<String>, found: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(rest, prefix.clone(), found).trim_start();
            match rest.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => rest = next,
                _ => return rest.split_once('}').map_or("", |(_, after)| after),
            }
        }
    }
    let end = text.bytes().position(|byte| !is_word(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = [prefix, vec![name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(inner) => expand(inner, path, found),
        None => {
            found.push(path);
            rest
        }
    }
}

/// Returns the groups of files that import each other in a circle. A module and those inside it may
/// know each other.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let modules: BTreeMap<Vec<String>, &str> =
        sources.iter().map(|source| (module_path(&source.path), source.path.as_str())).collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        let own = module_path(&source.path);
        for path in named_paths(source) {
            let path = path.segments;
            let target = (1..=path.len()).rev().find_map(|len| modules.get_key_value(&path[..len]));
            let Some((module, file)) = target else { continue };
            if !own.starts_with(module) && !module.starts_with(&own) {
                arrows.entry(&source.path).or_default().insert(*file);
            }
        }
    }
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for next in arrows.get(file.as_str()).into_iter().flatten() {
                if seen.insert((*next).to_owned()) {
                    open.push((*next).to_owned());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<String, BTreeSet<String>> =
        sources.iter().map(|source| (source.path.clone(), reach(&source.path))).collect();
    let mut found = BTreeSet::new();
    for (file, there) in reached.iter().filter(|(file, there)| there.contains(*file)) {
        let circle = there.iter().filter(|other| reached[*other].contains(file));
        found.insert(circle.cloned().collect::<Vec<_>>());
    }
    found.into_iter().collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources: Vec<Source> = rust_files("src")
        .into_iter()
        .filter(|source| !matches!(source.module(), "lib" | "manual") && !source.code.is_empty())
        .collect();
    let found: Vec<String> = circles(&sources).iter().map(|files| files.join(" ↔ ")).collect();
    report("files do not import each other in a circle", &found);
}

#[test]
fn a_planted_circle_is_found() {
    let file = |path: &str, text: &str| Source { path: path.into(), ..planted(text) };
    let sources = [
        file("src/a/mod.rs", "mod b;\nuse b::B;\n"),
        file("src/a/b.rs", "use super::A;\nuse crate::{c::{d::D, E}, f::F};\n"),
        file("src/c/mod.rs", "pub use super::f::F;\n"),
        file("src/c/d.rs", "use crate::a::b::B;\n"),
        file("src/f.rs", "fn f() {}\n"),
    ];
    assert_eq!(circles(&sources), [["src/a/b.rs", "src/c/d.rs"]]);
}
