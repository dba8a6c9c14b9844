//! An index file in memory, and the search in it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::codec::Cursor;
use super::terms;

/// What an index file begins with; then the version and a checksum of the rest, four bytes each.
pub(super) const MAGIC: &[u8; 8] = b"weirdocs";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER: usize = 16;

/// BM25's usual constants: how soon a repeated word counts no more, how much long sections are held
/// back.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// A question has a hundred characters; of a pasted log, which may have 400 000, the beginning
/// does.
const MAX_QUESTION: usize = 1000;

/// How many entries of the index one search looks at. Rare words come first: they decide, and what
/// all pages say decides nothing. So a search takes about a millisecond at most, whatever is asked.
const MAX_POSTINGS: usize = 30_000;

/// The index. A clone of its text is never made.
pub struct Index {
    bytes: Bytes,
    pages: Vec<Page>,
    sections: Vec<Section>,
    terms: HashMap<Box<str>, Postings>,
    average_length: f32,
}

struct Page {
    path: Range<usize>,
    title: Range<usize>,
}

struct Section {
    page: usize,
    id: u64,
    headings: Range<usize>,
    length: f32,
    text: Range<usize>,
}

struct Postings {
    /// In how many sections the term stands.
    sections: usize,
    list: Range<usize>,
}

/// A section that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// Its name, sixteen hexadecimal digits, the same in every copy.
    pub id: String,
    /// The page's path below the documentation's root.
    pub path: &'a str,
    /// The page's title.
    pub title: &'a str,
    /// The headings that lead to it, outermost first.
    pub headings: Vec<&'a str>,
    /// Its text.
    pub text: &'a str,
}

/// Why bytes are no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Something else.
    #[error("not an index of documentation: `weir docs index` makes one")]
    NotOurs,
    /// Of another version of Weir.
    #[error(
        "an index of format {0}, this version reads {VERSION}: make it again with `weir docs index`"
    )]
    Version(u32),
    /// Cut short or changed.
    #[error("damaged (its checksum is wrong): make it again with `weir docs index`")]
    Damaged,
}

impl Index {
    /// Reads an index file.
    pub fn parse(bytes: Bytes) -> Result<Self, IndexError> {
        let four = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (Some(version), Some(sum), true) = (four(8), four(12), bytes.starts_with(MAGIC)) else {
            return Err(IndexError::NotOurs);
        };
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        if crc32fast::hash(&bytes[HEADER..]) != sum {
            return Err(IndexError::Damaged);
        }
        Self::directory(bytes).ok_or(IndexError::Damaged)
    }

    fn directory(bytes: Bytes) -> Option<Self> {
        let mut cursor = Cursor::new(&bytes, HEADER);
        let count = cursor.count()?;
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            pages.push(Page { path: cursor.text()?, title: cursor.text()? });
        }
        let count = cursor.count()?;
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let page = usize::try_from(cursor.number()?).ok().filter(|page| *page < pages.len())?;
            let (id, headings) = (cursor.number()?, cursor.text()?);
            sections.push(Section {
                page,
                id,
                headings,
                length: cursor.number()? as f32,
                text: cursor.text()?,
            });
        }
        let count = cursor.count()?;
        let mut terms = HashMap::with_capacity(count);
        for _ in 0..count {
            let term = cursor.text()?;
            let postings = Postings {
                sections: usize::try_from(cursor.number()?).ok()?,
                list: cursor.span()?,
            };
            terms.insert(text(&bytes, &term).into(), postings);
        }
        if !cursor.is_at_end() {
            return None;
        }
        let total: f32 = sections.iter().map(|section: &Section| section.length).sum();
        let average_length = (total / sections.len().max(1) as f32).max(1.0);
        Some(Self { bytes, pages, sections, terms, average_length })
    }

    /// The sections that answer a question best, at most so many, the best one first.
    pub fn search(&self, question: &str, limit: usize) -> Vec<Hit<'_>> {
        let mut scores = vec![0.0_f32; self.sections.len()];
        let mut seen = 0;
        for postings in self.asked(question) {
            if seen > 0 && postings.sections.saturating_add(seen) > MAX_POSTINGS {
                break;
            }
            self.score(postings, &mut scores);
            seen = seen.saturating_add(postings.sections);
        }
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(limit + 1);
        for (section, score) in scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0) {
            // of equals the one that comes first in the documentation
            let at = best.partition_point(|(other, _)| *other >= score);
            if at < limit {
                best.insert(at, (score, section));
                best.truncate(limit);
            }
        }
        best.into_iter().map(|(_, section)| self.hit(&self.sections[section])).collect()
    }

    /// The postings of a question's terms, each once, the rarest first.
    fn asked(&self, question: &str) -> Vec<&Postings> {
        let end = question.char_indices().nth(MAX_QUESTION).map_or(question.len(), |(at, _)| at);
        let mut found: HashMap<&str, &Postings> = HashMap::new();
        terms::each(&question[..end], |term| {
            found
                .extend(self.terms.get_key_value(term).map(|(term, postings)| (&**term, postings)));
        });
        let mut found: Vec<(&str, &Postings)> = found.into_iter().collect();
        found.sort_unstable_by_key(|(term, postings)| (postings.sections, *term));
        found.into_iter().map(|(_, postings)| postings).collect()
    }

    fn score(&self, postings: &Postings, scores: &mut [f32]) {
        let all = self.sections.len() as f32;
        let with = postings.sections as f32;
        let rarity = (1.0 + (all - with + 0.5) / (with + 0.5)).ln();
        let list = &self.bytes[postings.list.clone()];
        let mut cursor = Cursor::new(list, 0);
        let mut at = 0;
        while let (Some(step), Some(count)) = (cursor.number(), cursor.number()) {
            at = usize::try_from(step).unwrap_or(usize::MAX).saturating_add(at);
            let (Some(section), Some(score)) = (self.sections.get(at), scores.get_mut(at)) else {
                return;
            };
            let count = count as f32;
            let held_back = 1.0 - B + B * section.length / self.average_length;
            *score += rarity * count * (K1 + 1.0) / (count + K1 * held_back);
        }
    }

    fn hit(&self, section: &Section) -> Hit<'_> {
        let page = &self.pages[section.page];
        let headings = text(&self.bytes, &section.headings);
        Hit {
            id: format!("{:016x}", section.id),
            path: text(&self.bytes, &page.path),
            title: text(&self.bytes, &page.title),
            headings: headings.split_terminator('\n').collect(),
            text: text(&self.bytes, &section.text),
        }
    }

    /// How many pages it holds.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// How many sections.
    pub fn sections(&self) -> usize {
        self.sections.len()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({} pages, {} sections)", self.pages(), self.sections())
    }
}

/// Text whose bytes were checked when the index was read.
fn text<'a>(bytes: &'a Bytes, span: &Range<usize>) -> &'a str {
    bytes.get(span.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}
