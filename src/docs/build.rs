//! Pages → the bytes of an index file.

use std::collections::{BTreeMap, HashMap};

use super::codec::{put_text, put_varint};
use super::index::{HEADER, MAGIC, VERSION};
use super::markdown::{self, Section};
use super::terms;

/// The weights of a word in a section's own heading, in the page's title, in the file's path; one
/// in its text is 1.
const HEADING_WEIGHT: u32 = 4;
const TITLE_WEIGHT: u32 = 3;
const PATH_WEIGHT: u32 = 1;

/// A builder of an index, page by page.
#[derive(Default)]
pub struct Builder {
    pages: Vec<u8>,
    page_count: u32,
    sections: Vec<u8>,
    section_count: u32,
    postings: BTreeMap<String, Vec<(u32, u32)>>,
}

/// A finished index.
pub struct BuiltIndex {
    /// The bytes of the index file.
    pub bytes: Vec<u8>,
    /// The number of pages with text.
    pub pages: usize,
    /// The number of sections.
    pub sections: usize,
}

impl Builder {
    /// Adds a page, by its path below the documentation's root, with `/` between folders. Returns
    /// false when it has no text.
    pub fn add(&mut self, path: &str, text: &str) -> bool {
        let page = markdown::read(text);
        let title = page.title.unwrap_or_else(|| title_from_path(path));
        if page.sections.is_empty() {
            return false;
        }
        for (ordinal, section) in page.sections.iter().enumerate() {
            self.add_section(path, &title, section, ordinal);
        }
        put_text(&mut self.pages, path);
        put_text(&mut self.pages, &title);
        self.page_count += 1;
        true
    }

    fn add_section(&mut self, path: &str, title: &str, section: &Section, ordinal: usize) {
        let mut counts: HashMap<String, u32> = HashMap::new();
        let mut length = 0;
        let mut count = |text: &str, weight: u32| {
            terms::for_each(text, |term| {
                length += weight;
                *counts.entry(term.to_owned()).or_default() += weight;
            });
        };
        count(&section.text, 1);
        count(title, TITLE_WEIGHT);
        count(path.trim_end_matches(".md"), PATH_WEIGHT);
        section.headings.last().into_iter().for_each(|heading| count(heading, HEADING_WEIGHT));
        let out = &mut self.sections;
        put_varint(out, u64::from(self.page_count));
        put_varint(out, section_id(path, &section.headings, ordinal));
        put_text(out, &section.headings.join("\n"));
        put_varint(out, u64::from(length));
        put_text(out, &section.text);
        for (term, count) in counts {
            self.postings.entry(term).or_default().push((self.section_count, count));
        }
        self.section_count += 1;
    }

    /// Builds the index of the pages that were added.
    pub fn finish(self) -> BuiltIndex {
        let mut out = Vec::with_capacity(HEADER + self.pages.len() + 2 * self.sections.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        put_varint(&mut out, u64::from(self.page_count));
        out.extend_from_slice(&self.pages);
        put_varint(&mut out, u64::from(self.section_count));
        out.extend_from_slice(&self.sections);
        put_varint(&mut out, self.postings.len() as u64);
        let mut list = Vec::new();
        for (term, postings) in &self.postings {
            list.clear();
            let mut last = 0;
            for (section, count) in postings {
                put_varint(&mut list, u64::from(section - last));
                put_varint(&mut list, u64::from(*count));
                last = *section;
            }
            put_text(&mut out, term);
            put_varint(&mut out, postings.len() as u64);
            put_varint(&mut out, list.len() as u64);
            out.extend_from_slice(&list);
        }
        let sum = crc32fast::hash(&out[HEADER..]);
        out[HEADER - 4..HEADER].copy_from_slice(&sum.to_le_bytes());
        BuiltIndex {
            bytes: out,
            pages: self.page_count as usize,
            sections: self.section_count as usize,
        }
    }
}

/// Returns the id of a section: the same in every copy of the documentation, so that responses can
/// cite it (FNV-1a).
fn section_id(path: &str, headings: &[String], ordinal: usize) -> u64 {
    let ordinal = ordinal.to_string();
    let parts =
        [path].into_iter().chain(headings.iter().map(String::as_str)).chain([ordinal.as_str()]);
    parts.flat_map(|part| part.bytes().chain([0])).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Derives a title from the file's name, for a page without one.
fn title_from_path(path: &str) -> String {
    let name = path.trim_end_matches(".md").trim_end_matches("/_index").trim_end_matches("/index");
    name.rsplit('/').next().unwrap_or(name).replace(['_', '-'], " ")
}
