//! `weir docs index DIR -o FILE`: a tree of Markdown → one file for `docs.index`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::Out;
use super::out::plural;
use crate::docs::{Builder, BuiltIndex};

/// The interval at which the progress line changes.
const TICK: Duration = Duration::from_millis(100);

/// Writes the index. Files that are not UTF-8 are left out with a remark.
pub(super) fn index(dir: &Path, output: &Path, out: &mut Out) -> ExitCode {
    let started = Instant::now();
    let indexed = pages(dir)
        .map_err(|(path, why)| format!("cannot read {}: {why}", path.display()))
        .and_then(|pages| {
            if pages.is_empty() {
                return Err(format!("{} contains no Markdown (*.md)", dir.display()));
            }
            let built = build(dir, &pages, out);
            replace(output, &built.bytes)
                .map_err(|why| format!("cannot write {}: {why}", output.display()))?;
            Ok(built)
        });
    match indexed {
        Ok(built) => {
            let size = human_size(built.bytes.len());
            let (pages, sections) =
                (plural(built.pages, "page"), plural(built.sections, "section"));
            let took = started.elapsed().as_secs_f64();
            out.line(format_args!(
                "{}: {pages}, {sections}, {size}, in {took:.1} s",
                output.display()
            ));
            ExitCode::SUCCESS
        }
        Err(why) => {
            out.remark(why);
            ExitCode::FAILURE
        }
    }
}

/// Returns a file's size in KiB or MiB.
fn human_size(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    if bytes < MIB {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{:.1} MiB", bytes as f64 / MIB as f64)
    }
}

/// Returns the Markdown files below a folder, sorted. Hidden files are skipped; symbolic links are
/// not followed, so that no page occurs twice and no loop is entered. Fails with the path that
/// cannot be read.
fn pages(dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |why| (path, why)
    };
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed(&folder))?);
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md")
            {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn build(dir: &Path, pages: &[PathBuf], out: &mut Out) -> BuiltIndex {
    let mut builder = Builder::default();
    let mut last_shown = Instant::now();
    for (done, path) in pages.iter().enumerate() {
        if last_shown.elapsed() > TICK {
            out.progress(format_args!("{done} of {} pages", pages.len()));
            last_shown = Instant::now();
        }
        let below = path.strip_prefix(dir).unwrap_or(path).to_string_lossy().replace('\\', "/");
        match fs::read_to_string(path) {
            Ok(text) => _ = builder.add(&below, &text),
            Err(why) => {
                out.progress("");
                out.remark(format_args!("{below} is left out: {why}"));
            }
        }
    }
    out.progress("");
    builder.finish()
}

/// Writes a file atomically: a gateway that reloads meanwhile reads the old file or the new one,
/// never a part of one.
fn replace(output: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, output));
    if written.is_err() {
        // nothing more can be done when this fails as well
        let _ = fs::remove_file(&partial);
    }
    written
}
