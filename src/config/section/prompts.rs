//! `[prompts]`: the built-in prompts, with those of the operator's directory over them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::Scopes;
use crate::config::toml::diagnostic::{Excerpt, Fault, Location, Reported};
use crate::config::toml::environment::read_limited;
use crate::config::toml::reader::Reader;
use crate::model::Families;
use crate::prompt::{DefinitionError, PromptRegistry};

/// Key of the directory.
const DIR: &[&str] = &["prompts", "dir"];
/// Most levels below the directory; an id has two parts at most today.
const MAX_DEPTH: usize = 8;
/// Most files of the directory. It stops a mistaken path such as `/`.
const MAX_FILES: usize = 2000;

/// Returns the operator's directory, if one is configured.
pub(crate) fn directory(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let dir = reader.optional_string(DIR).unwrap_or_default();
    dir.map(|dir| reader.base.join(dir))
}

/// Reads the prompts. `families` are those that have prompts of their own.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    families: &Families,
) -> Result<Arc<PromptRegistry>, Reported> {
    let Some(root) = directory(reader) else {
        // a test checks that the embedded files have no flaws
        return PromptRegistry::embedded()
            .map_err(|flaws| report(reader, Path::new(""), &BTreeMap::new(), flaws));
    };
    let files = files(&root).map_err(|why| {
        let span = reader.doc.get(DIR).map(|entry| entry.span).unwrap_or_default();
        reader.report(reader.fault_at(DIR, &span, why))
    })?;
    let own = texts(reader, &root, files);
    let embedded = PromptRegistry::embedded_files()
        .iter()
        .copied()
        .filter(|(path, _)| !own.contains_key(*path));
    let all = embedded.chain(own.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    match PromptRegistry::load(all) {
        Ok(registry) => {
            check_primitives(reader, &root, &registry);
            check_folders(reader, &root, &registry, families);
            Ok(Arc::new(registry))
        }
        Err(flaws) => Err(report(reader, &root, &own, flaws)),
    }
}

/// Collects a fault for each unit primitive that GitLab does not have: it would let nobody in.
fn check_primitives(reader: &mut Reader<'_>, root: &Path, registry: &PromptRegistry) {
    for prompt in registry.iter() {
        let unknown = |name: &&String| Scopes::from_names([name.as_str()]) == Scopes::default();
        for name in prompt.unit_primitives.iter().filter(unknown) {
            let location = file_location(&root.join(prompt.path()));
            let message = format!("{name:?} is not one of GitLab's");
            reader.report(Fault::error(location, "unit_primitives", message));
        }
    }
}

/// Collects a fault for each file whose folder no family uses.
fn check_folders(
    reader: &mut Reader<'_>,
    root: &Path,
    registry: &PromptRegistry,
    families: &Families,
) {
    let known: BTreeSet<&str> =
        families.iter().flat_map(|family| &family.prompts).map(|folder| &**folder).collect();
    for prompt in registry.iter() {
        let Some(folder) = prompt.family.as_deref().filter(|folder| !known.contains(folder)) else {
            continue;
        };
        let location = file_location(&root.join(prompt.path()));
        let names = known.iter().copied().collect::<Vec<_>>().join(", ");
        let message = format!(
            "no family looks for {folder}.toml (families.<name>.prompts): they look for {names}"
        );
        reader.report(Fault::error(location, "", message));
    }
}

/// Returns the files below a directory, in order, without hidden ones, backups of editors and
/// Kubernetes' `..data`. Fails with the reason, in words.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    walk(root, MAX_DEPTH, &mut found)?;
    Ok(found)
}

/// Appends the files below `dir`, at most `depth` levels deep.
fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("cannot read {}: {why}", dir.display());
    let entries: Result<Vec<PathBuf>, _> =
        fs::read_dir(dir).map_err(failed)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort();
    for path in entries {
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if path.is_dir() {
            let deeper =
                depth.checked_sub(1).ok_or_else(|| format!("{} is too deep", path.display()))?;
            walk(&path, deeper, found)?;
        } else if found.len() < MAX_FILES {
            found.push(path);
        } else {
            return Err(format!("more than {MAX_FILES} files are in it"));
        }
    }
    Ok(())
}

/// Reads the files that are prompts or shared texts. Returns their texts by their path below the
/// directory; one that cannot be read is a fault.
fn texts(reader: &mut Reader<'_>, root: &Path, files: Vec<PathBuf>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for path in files {
        let location = file_location(&path);
        if !path.extension().is_some_and(|extension| extension == "toml" || extension == "txt") {
            let message = "not a prompt (.toml) nor a shared text (.txt): left out";
            reader.warn(Fault::warning(location, "", message));
            continue;
        }
        let text = read_limited(&path)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8".into()));
        match text {
            Ok(text) => {
                let below =
                    path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                texts.insert(below, text);
            }
            Err(why) => _ = reader.report(Fault::error(location, "", why)),
        }
    }
    texts
}

/// Collects flaws as faults, with their lines. A flaw of a built-in file follows from one of the
/// operator's.
fn report(
    reader: &mut Reader<'_>,
    root: &Path,
    own: &BTreeMap<String, String>,
    flaws: Vec<DefinitionError>,
) -> Reported {
    for flaw in flaws {
        let location = match own.get(&flaw.path) {
            Some(text) if !text.is_empty() => {
                Location::Line(excerpt(&root.join(&flaw.path).to_string_lossy(), text, &flaw.span))
            }
            Some(_) => file_location(&root.join(&flaw.path)),
            None => Location::File(format!("{} (built in)", flaw.path).into()),
        };
        reader.report(Fault::error(location, "", flaw.message));
    }
    Reported
}

fn file_location(path: &Path) -> Location {
    Location::File(path.to_string_lossy().into())
}

/// Returns the line of a text that `at` is in.
fn excerpt(file: &str, text: &str, at: &Range<usize>) -> Excerpt {
    const MAX_SHOWN: usize = 200;
    let before = &text[..at.start];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let source: String =
        text[start..].lines().next().unwrap_or_default().chars().take(MAX_SHOWN).collect();
    let column = text[start..at.start].chars().count() + 1;
    let width = text[at.clone()].lines().next().unwrap_or_default().chars().count().max(1);
    let line = before.matches('\n').count() + 1;
    let caret = column.min(MAX_SHOWN);
    Excerpt {
        file: file.into(),
        line,
        column,
        source,
        caret,
        width: width.min(MAX_SHOWN - caret + 1),
    }
}
