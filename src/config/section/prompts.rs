//! `[prompts]`: the prompts in the program, with those of the operator's directory over them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::Scopes;
use crate::config::load;
use crate::config::toml::diagnostic::{Excerpt, Fault, Place};
use crate::config::toml::reader::Reader;
use crate::model::Families;
use crate::prompt::{Flaw, Registry};

/// Where the directory is.
pub(crate) const DIR: &[&str] = &["prompts", "dir"];
/// Below the directory; an id has two parts at most today.
const MAX_DEPTH: usize = 8;
/// This stops a mistaken path such as `/`.
const MAX_FILES: usize = 2000;

/// The operator's directory.
pub(crate) fn directory(reader: &mut Reader<'_>) -> Option<PathBuf> {
    reader.text(DIR).map(|dir| reader.base.join(dir))
}

/// Reads the prompts, or notes what is wrong with them.
pub(crate) fn read(reader: &mut Reader<'_>, families: &Families) -> Option<Arc<Registry>> {
    let Some(root) = directory(reader) else {
        // a test holds the embedded files to this
        let embedded = Registry::embedded()
            .map_err(|flaws| note(reader, Path::new(""), &BTreeMap::new(), flaws));
        return embedded.ok();
    };
    let files = match files(&root) {
        Ok(files) => files,
        Err(why) => {
            let span = reader.doc.get(DIR).map(|entry| entry.span).unwrap_or_default();
            reader.error(DIR, &span, why);
            return None;
        }
    };
    let own = texts(reader, &root, files);
    let embedded =
        Registry::embedded_files().iter().copied().filter(|(path, _)| !own.contains_key(*path));
    let all = embedded.chain(own.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    match Registry::load(all) {
        Ok(registry) => {
            primitives(reader, &root, &registry);
            folders(reader, &root, &registry, families);
            Some(Arc::new(registry))
        }
        Err(flaws) => {
            note(reader, &root, &own, flaws);
            None
        }
    }
}

/// A primitive that is not known here would let nobody in.
fn primitives(reader: &mut Reader<'_>, root: &Path, registry: &Registry) {
    for prompt in registry.iter() {
        let unknown = |name: &&String| Scopes::of([name.as_str()]) == Scopes::default();
        for name in prompt.unit_primitives.iter().filter(unknown) {
            let file = prompt.path();
            let place = Place::File(root.join(&file).to_string_lossy().into());
            reader.faults.push(Fault::error(
                place,
                "unit_primitives",
                format!("{name:?} is not one of GitLab's"),
            ));
        }
    }
}

/// A file that no family looks for.
fn folders(reader: &mut Reader<'_>, root: &Path, registry: &Registry, families: &Families) {
    let known: BTreeSet<&str> =
        families.iter().flat_map(|family| &family.prompts).map(|folder| &**folder).collect();
    for prompt in registry.iter() {
        let Some(folder) = prompt.family.as_deref().filter(|folder| !known.contains(folder)) else {
            continue;
        };
        let place = Place::File(root.join(prompt.path()).to_string_lossy().into());
        let names = known.iter().copied().collect::<Vec<_>>().join(", ");
        let message = format!(
            "no family looks for {folder}.toml (families.<name>.prompts): they look for {names}"
        );
        reader.faults.push(Fault::error(place, "", message));
    }
}

/// The files below a directory, in order; hidden ones, backups of editors and Kubernetes' `..data`
/// left out.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    walk(root, MAX_DEPTH, &mut found)?;
    Ok(found)
}

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

/// The texts of the files that are prompts, by their path below the directory.
fn texts(reader: &mut Reader<'_>, root: &Path, files: Vec<PathBuf>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for path in files {
        let place = || Place::File(path.to_string_lossy().into());
        if !path.extension().is_some_and(|extension| extension == "toml" || extension == "txt") {
            let warning = Fault::warning(
                place(),
                "",
                "not a prompt (.toml) nor a shared text (.txt): left out",
            );
            reader.faults.push(warning);
            continue;
        }
        match load::read_limited(&path)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8".into()))
        {
            Ok(text) => {
                let below =
                    path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                texts.insert(below, text);
            }
            Err(why) => reader.faults.push(Fault::error(place(), "", why)),
        }
    }
    texts
}

/// Flaws as faults, with their lines. A flaw of a file in the program follows from one of the
/// operator's.
fn note(reader: &mut Reader<'_>, root: &Path, own: &BTreeMap<String, String>, flaws: Vec<Flaw>) {
    for flaw in flaws {
        let place = match own.get(&flaw.path) {
            Some(text) if !text.is_empty() => {
                Place::Line(excerpt(&root.join(&flaw.path).to_string_lossy(), text, &flaw.at))
            }
            Some(_) => Place::File(root.join(&flaw.path).to_string_lossy().into()),
            None => Place::File(format!("{} (in the program)", flaw.path).into()),
        };
        reader.faults.push(Fault::error(place, "", flaw.message));
    }
}

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
