//! An index file in memory, and the search in it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::codec::Cursor;
use super::terms;

/// The first bytes of an index file; then the version and a checksum of the rest, four bytes each.
pub(super) const MAGIC: &[u8; 8] = b"weirdocs";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER: usize = 16;

/// BM25's usual constants: `k1`, how soon a repeated word stops counting, and `b`, how much long
/// sections are penalised.
const K1: f32 = 1.2;
const B: f32 = 0.75;
/// The most characters of a question that are searched: a question has a hundred, a pasted log up
/// to 400 000.
const MAX_QUESTION: usize = 1000;

/// The most postings that one search reads. Rare terms come first: they decide the ranking, and a
/// term of every page does not. So a search takes about a millisecond at most, whatever the
/// question.
const MAX_POSTINGS: usize = 30_000;

/// A parsed index. Its text is never copied.
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
    /// The number of sections that contain the term.
    sections: usize,
    list: Range<usize>,
}

/// A section that matches a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// Its id, sixteen hexadecimal digits, the same in every copy.
    pub id: String,
    /// The page's path below the documentation's root.
    pub path: &'a str,
    /// The page's title.
    pub title: &'a str,
    /// The headings above it, outermost first.
    pub headings: Vec<&'a str>,
    /// Its text.
    pub text: &'a str,
}

/// Why a file is not a usable index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It is something else.
    #[error("not an index of documentation: `weir docs index` makes one")]
    NotAnIndex,
    /// Another version of Weir built it.
    #[error(
        "an index of format {0}, this version reads {VERSION}: make it again with `weir docs index`"
    )]
    Version(u32),
    /// It was cut short or changed.
    #[error("damaged (its checksum is wrong): make it again with `weir docs index`")]
    Damaged,
}

impl Index {
    /// Parses an index file. Checks the checksum and every length.
    pub fn parse(bytes: Bytes) -> Result<Self, IndexError> {
        let u32_at = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (Some(version), Some(sum), true) = (u32_at(8), u32_at(12), bytes.starts_with(MAGIC))
        else {
            return Err(IndexError::NotAnIndex);
        };
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        if crc32fast::hash(&bytes[HEADER..]) != sum {
            return Err(IndexError::Damaged);
        }
        Self::parse_directory(bytes).ok_or(IndexError::Damaged)
    }

    fn parse_directory(bytes: Bytes) -> Option<Self> {
        let mut cursor = Cursor::new(&bytes, HEADER);
        let count = cursor.count()?;
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            pages.push(Page { path: cursor.text()?, title: cursor.text()? });
        }
        let count = cursor.count()?;
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let page = usize::try_from(cursor.varint()?).ok().filter(|page| *page < pages.len())?;
            let (id, headings) = (cursor.varint()?, cursor.text()?);
            sections.push(Section {
                page,
                id,
                headings,
                length: cursor.varint()? as f32,
                text: cursor.text()?,
            });
        }
        let count = cursor.count()?;
        let mut terms = HashMap::with_capacity(count);
        for _ in 0..count {
            let term = cursor.text()?;
            let postings = Postings {
                sections: usize::try_from(cursor.varint()?).ok()?,
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

    /// Returns the sections that match a question best, at most `limit`, the best one first.
    pub fn search(&self, question: &str, limit: usize) -> Vec<Hit<'_>> {
        let mut scores = vec![0.0_f32; self.sections.len()];
        let mut scanned = 0;
        for postings in self.postings_of(question) {
            if scanned > 0 && postings.sections.saturating_add(scanned) > MAX_POSTINGS {
                break;
            }
            self.score(postings, &mut scores);
            scanned = scanned.saturating_add(postings.sections);
        }
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(limit + 1);
        for (section, score) in scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0) {
            // at equal scores, the section that comes first in the documentation
            let at = best.partition_point(|(other, _)| *other >= score);
            if at < limit {
                best.insert(at, (score, section));
                best.truncate(limit);
            }
        }
        best.into_iter().map(|(_, section)| self.hit(&self.sections[section])).collect()
    }

    /// Returns the postings of a question's terms, each once, the rarest first.
    fn postings_of(&self, question: &str) -> Vec<&Postings> {
        let end = question.char_indices().nth(MAX_QUESTION).map_or(question.len(), |(at, _)| at);
        let mut found: HashMap<&str, &Postings> = HashMap::new();
        terms::for_each(&question[..end], |term| {
            found
                .extend(self.terms.get_key_value(term).map(|(term, postings)| (&**term, postings)));
        });
        let mut found: Vec<(&str, &Postings)> = found.into_iter().collect();
        found.sort_unstable_by_key(|(term, postings)| (postings.sections, *term));
        found.into_iter().map(|(_, postings)| postings).collect()
    }

    fn score(&self, postings: &Postings, scores: &mut [f32]) {
        let all = self.sections.len() as f32;
        let containing = postings.sections as f32;
        let idf = (1.0 + (all - containing + 0.5) / (containing + 0.5)).ln();
        let list = &self.bytes[postings.list.clone()];
        let mut cursor = Cursor::new(list, 0);
        let mut at = 0;
        while let (Some(delta), Some(count)) = (cursor.varint(), cursor.varint()) {
            at = usize::try_from(delta).unwrap_or(usize::MAX).saturating_add(at);
            let (Some(section), Some(score)) = (self.sections.get(at), scores.get_mut(at)) else {
                return;
            };
            let count = count as f32;
            let length_factor = 1.0 - B + B * section.length / self.average_length;
            *score += idf * count * (K1 + 1.0) / (count + K1 * length_factor);
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

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Returns the number of sections.
    pub fn sections(&self) -> usize {
        self.sections.len()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({} pages, {} sections)", self.pages(), self.sections())
    }
}

/// Returns a text whose bytes were checked when the index was parsed.
fn text<'a>(bytes: &'a Bytes, span: &Range<usize>) -> &'a str {
    bytes.get(span.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}
