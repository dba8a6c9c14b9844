//! A searchable copy of GitLab's documentation: Markdown → sections → one index file → the sections
//! that answer a question best. Pure: files are read and written elsewhere.
//!
//! Ranking is BM25 (Robertson, Zaragoza, 2009), with the words of titles weighted. The index is an
//! inverted one of our own, in one file that is kept in memory and not decoded except for its
//! directory. tantivy, the field's standard, would be 127 more crates and an index of many files;
//! the `bm25` crate has no file format and would read 20 MiB of Markdown with every reload.

mod build;
mod codec;
mod index;
mod markdown;
mod terms;

pub use build::{Builder, BuiltIndex};
pub use index::{Hit, Index, IndexError};

use std::sync::Arc;

/// `[docs]`, validated.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The index that `index` names, parsed.
    pub index: Option<Arc<Index>>,
    /// `base_url` without a trailing slash.
    pub base_url: Box<str>,
}

impl Settings {
    /// Returns the URL of a page, by its path in the tree. GitLab's own help pages (`…/help`) are
    /// named like the files; docs.gitlab.com and the like by folders.
    pub fn link(&self, path: &str) -> String {
        let base = &*self.base_url;
        if base.ends_with("/help") {
            return format!("{base}/{path}");
        }
        let page = path.strip_suffix(".md").unwrap_or(path);
        let (folder, name) =
            page.rsplit_once('/').map_or(("", page), |(folder, name)| (folder, name));
        match (folder, matches!(name, "index" | "_index")) {
            ("", true) => format!("{base}/"),
            (folder, true) => format!("{base}/{folder}/"),
            (_, false) => format!("{base}/{page}/"),
        }
    }
}

#[cfg(test)]
mod tests;
