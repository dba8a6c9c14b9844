//! The manual: what it cites and lists exists, and the top level of the repository is fixed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::source::*;

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
        let permits = text.match_indices(&name).map(|(at, _)| at).filter(stands_alone);
        faults.extend(
            permits.map(|at| (line_of(text, at), format!("{name} is not in the repository"))),
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
