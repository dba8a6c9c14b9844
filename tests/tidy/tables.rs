//! One table for each enum: its variants are matched where the table is, and nowhere else.

use super::source::*;

/// The files that tell one kind of provider from another: the table of profiles, and the one
/// `match` that chooses a dialect.
const PROVIDER_FILES: &[&str] = &["src/model/provider_kind.rs", "src/provider/mod.rs"];

/// Names and marks of vendors' bodies. The relay gets them from the dialect
/// (`provider/markers.rs`).
const VENDORS_TERMS: &[&str] = &[
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
    let found = occurrences(&source.code, "Endpoint").into_iter().filter(names_a_variant);
    found.map(|at| line_of(&source.code, at)).collect()
}

/// Returns how many `match`es and `matches!` the methods of `Endpoint` have.
fn matches_over_endpoint(source: &Source) -> usize {
    let body = source.code.split("impl Endpoint {").nth(1).unwrap_or_default();
    let body = body.split("\n}").next().unwrap_or_default();
    occurrences(body, "match").len() + body.matches("matches!").count()
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

/// Where code has an `Option<Option<…>>`.
fn nested_options(source: &Source) -> Vec<usize> {
    let is_nested = |at: &usize| {
        let inside = source.code[at + "Option".len()..].strip_prefix('<');
        inside.is_some_and(|inside| inside.trim_start().starts_with("Option<"))
    };
    let found = occurrences(&source.code, "Option").into_iter().filter(is_nested);
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
    occurrences(&source.code, kind)
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
fn vendors_terms(source: &Source) -> Vec<(usize, &'static str)> {
    let bytes = source.production.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        let literal = source.production.get(at..end).unwrap_or_default();
        if !literal.starts_with('/') {
            let phrase = VENDORS_TERMS.iter().filter(|word| literal.contains(**word));
            found.extend(phrase.map(|word| (line_of(&source.production, at), *word)));
        }
        at = if end == at { at + 1 } else { end };
    }
    found
}

#[test]
fn relay_names_no_vendors_json_word() {
    let mut offenders = Vec::new();
    for source in rust_files("src").iter().filter(|source| source.module() == "relay") {
        let phrase = vendors_terms(source).into_iter();
        offenders.extend(phrase.map(|(line, word)| format!("{}:{line}: {word}", source.path)));
    }
    report("the relay searches for its dialect's markers, not for words of its own", &offenders);
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
    let found = vendors_terms(&planted(text));
    assert_eq!(found, [(2, "usage"), (3, "[DONE]"), (3, "\\\"error")]);
}

#[test]
fn a_planted_option_of_an_option_is_found() {
    let text = "// Option<Option<u8>>\nfn f(a: Option<Options<u8>>) -> Option<\n    Option<u8>,\n> {}\n\
                fn g() -> Result<Option<u8>, Option<Option<u8>>> {}\n\
                #[cfg(test)]\nmod more {\n    fn h() -> Option<Option<u8>> {}\n}\n";
    assert_eq!(nested_options(&planted(text)), [2, 5], "the planted ones");
}
