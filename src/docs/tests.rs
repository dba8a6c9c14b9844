//! Whether the right page comes first, and which files are rejected.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::{Builder, Index, IndexError, Settings};

/// A small handbook, written for this test.
const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/docs");

fn add(builder: &mut Builder, folder: &Path) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries
        .iter()
        .filter(|path| !path.file_name().unwrap().as_encoded_bytes().starts_with(b"."))
    {
        if path.is_dir() {
            add(builder, path);
        } else if let Ok(text) = fs::read_to_string(path) {
            builder.add(path.strip_prefix(TREE).unwrap().to_str().unwrap(), &text);
        }
    }
}

fn file() -> Vec<u8> {
    let mut builder = Builder::default();
    add(&mut builder, Path::new(TREE));
    builder.finish().bytes
}

fn handbook() -> Index {
    Index::parse(file().into()).unwrap()
}

#[test]
fn the_right_section_comes_first() {
    let index = handbook();
    for (question, path, heading) in [
        (
            "How do I stop people from force pushing to main?",
            "user/project/repository/branches.md",
            "Forbid force pushes",
        ),
        (
            "how can I hide a password in job logs",
            "ci/variables.md",
            "Keep a secret out of the log",
        ),
        ("run a job every night", "ci/_index.md", "Run a pipeline on a timetable"),
        ("How are backups restored?", "administration/backup/_index.md", "Restore a backup"),
        (
            "transferring projects to a different group",
            "user/project/_index.md",
            "Move a project to another group",
        ),
        ("my job is stuck, no runner has the tag", "ci/runners.md", "Choose a runner by tags"),
        ("How can I revert a merged change?", "user/project/merge_requests.md", "Revert a merge"),
        (
            "enforce 2FA two-factor for all members",
            "user/group/members.md",
            "Two-factor authentication for everybody",
        ),
        ("zero downtime upgrades", "administration/upgrade.md", "Upgrade without downtime"),
        ("What does status 429 mean?", "api/tokens.md", "Rate limits"),
        (
            "how many approvals does a change need?",
            "user/project/merge_requests.md",
            "Require approvals",
        ),
        ("キャッシュの消去方法", "ci/日本語.md", "キャッシュを消去する"),
    ] {
        let hits = index.search(question, 4);
        let first =
            hits.first().map(|hit| (hit.path, hit.headings.last().copied().unwrap_or_default()));
        assert_eq!(first, Some((path, heading)), "{question}: {hits:#?}");
    }
}

#[test]
fn a_hit_has_what_a_prompt_needs() {
    let index = handbook();
    let hits = index.search("protect a branch", 2);
    let hit = &hits[0];
    assert_eq!(
        (hits.len(), hit.title, hit.headings.as_slice()),
        (2, "Protected branches", &["Protect a branch"][..])
    );
    assert!(hit.text.contains("**Settings > Repository**"), "{}", hit.text);
    assert!(
        hit.id.len() == 16
            && hit.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    );
    assert_eq!(hit.id, handbook().search("protect a branch", 1)[0].id);
    assert_eq!(index.search("", 4), []);
    assert_eq!(index.search("xyzzy", 4), []);
    assert_eq!(
        index.search(&"log ".repeat(100_000), 20).len(),
        2,
        "a pasted log is a question too"
    );
    assert_eq!((index.pages(), handbook().sections() > 30), (13, true));
}

#[test]
fn files_that_are_not_an_index_are_rejected() {
    let parse = |bytes: Vec<u8>| Index::parse(Bytes::from(bytes)).unwrap_err();
    let good = file();
    assert_eq!(parse(Vec::new()), IndexError::NotAnIndex);
    assert_eq!(parse(b"# Markdown".to_vec()), IndexError::NotAnIndex);
    assert_eq!(parse(good[..good.len() / 2].to_vec()), IndexError::Damaged);
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(parse(changed), IndexError::Damaged);
    let mut newer = good.clone();
    newer[8] = 9;
    assert_eq!(parse(newer), IndexError::Version(9));
    // a valid checksum does not make an invalid file dangerous
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..=random.usize(..4) {
            let at = random.usize(16..bytes.len());
            bytes[at] = random.u8(..);
        }
        let sum = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        if let Ok(index) = Index::parse(bytes.into()) {
            index.search("how do I protect a branch in a merge request", 20);
        }
    }
}

#[test]
fn an_empty_index_finds_nothing() {
    let index = Index::parse(Builder::default().finish().bytes.into()).unwrap();
    assert_eq!(index.search("anything", 4), []);
}

#[test]
fn links_follow_the_site() {
    let link = |base: &str, path| Settings { index: None, base_url: base.into() }.link(path);
    let site = "https://docs.gitlab.com";
    assert_eq!(link(site, "user/project/_index.md"), "https://docs.gitlab.com/user/project/");
    assert_eq!(link(site, "user/project/index.md"), "https://docs.gitlab.com/user/project/");
    assert_eq!(link(site, "ci/variables.md"), "https://docs.gitlab.com/ci/variables/");
    assert_eq!(link(site, "_index.md"), "https://docs.gitlab.com/");
    assert_eq!(
        link("https://gitlab.example.com/help", "ci/variables.md"),
        "https://gitlab.example.com/help/ci/variables.md"
    );
}

/// Returns the CPU time of this thread, which other programs do not affect.
fn on_cpu() -> std::time::Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Measures an index of the size of GitLab's documentation: 2600 pages of 12 sections of 100 words,
/// drawn so that few words are frequent and most are rare. `cargo test --release --lib
/// docs::tests::measure -- --ignored --nocapture` prints the time.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut word = || format!("w{}", (40_000.0_f64.powf(random.f64()) - 1.0) as u32);
    let mut builder = Builder::default();
    for page in 0..2600 {
        let mut text = format!("---\ntitle: {} {}\n---\n", word(), word());
        for _ in 0..12 {
            text.push_str(&format!("\n## {} {}\n\n", word(), word()));
            (0..100).for_each(|_| text.push_str(&format!("{} ", word())));
        }
        builder.add(&format!("a/{page}.md"), &text);
    }
    let bytes = builder.finish().bytes;
    let before = on_cpu();
    let index = Index::parse(Bytes::from(bytes.clone())).unwrap();
    eprintln!("{index:?}, {} MiB, read in {:?}", bytes.len() >> 20, on_cpu() - before);
    for terms in [1, 3, 10, 800] {
        let questions: Vec<String> =
            (0..50).map(|_| (0..terms).map(|_| word() + " ").collect()).collect();
        let before = on_cpu();
        let found: usize = questions.iter().map(|question| index.search(question, 4).len()).sum();
        eprintln!("{terms} words: {:?} a search, {found} found", (on_cpu() - before) / 50);
    }
}
