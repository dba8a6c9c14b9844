//! The file as it was written: a tree in which every key and value has its span, and the lines to
//! print with a fault, with secrets masked.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::toml::diagnostic::{
    Excerpt, Fault, Location, MASK, is_variable_name, may_carry_secret,
};
use crate::config::toml::{key_paths, keys};
use crate::route::Feature;

/// Most characters of a line that are printed with a fault.
const MAX_SHOWN: usize = 200;

/// A parsed file.
pub(crate) struct Document<'a> {
    file: Arc<str>,
    text: &'a str,
    root: DeTable<'a>,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
    /// Spans that must not be shown, in order.
    masked: Vec<Range<usize>>,
}

/// One key of the file with its value.
#[derive(Clone)]
pub(crate) struct Entry<'d> {
    /// Span of the name.
    pub(crate) key: Range<usize>,
    /// Span of the value; of the header for a `[table]`.
    pub(crate) span: Range<usize>,
    /// The value itself.
    pub(crate) value: &'d DeValue<'d>,
}

impl<'a> Document<'a> {
    /// Parses a text. Fails with the syntax errors alone: what a partial tree lacks would be noise.
    pub(crate) fn parse(text: &'a str, file: Arc<str>) -> Result<Self, Vec<Fault>> {
        let (document, faults) = Self::parse_leniently(text, file);
        if faults.is_empty() { Ok(document) } else { Err(faults) }
    }

    /// Parses what can be parsed, and returns the syntax errors with it.
    pub(crate) fn parse_leniently(text: &'a str, file: Arc<str>) -> (Self, Vec<Fault>) {
        let starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self { file, text, root: root.into_inner(), lines, masked: Vec::new() };
        let mut masked = Vec::new();
        mask_secrets(&document.root, &mut Vec::new(), &mut masked);
        masked.sort_by_key(|range: &Range<usize>| range.start);
        document.masked = masked;
        let mut faults: Vec<Fault> =
            errors.iter().map(|error| document.syntax_fault(error)).collect();
        if let Some(last) = faults.last_mut() {
            last.hint = Some("keys and values are checked once the file is TOML".to_owned());
        }
        (document, faults)
    }

    /// Returns the name of the file as it was passed.
    pub(crate) const fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Returns the root table.
    pub(crate) const fn root(&self) -> &DeTable<'a> {
        &self.root
    }

    /// Returns the key and value at a path, or `None` when the file does not set it.
    pub(crate) fn get(&self, path: &[&str]) -> Option<Entry<'_>> {
        let (last, tables) = path.split_last()?;
        let table = tables
            .iter()
            .try_fold(&self.root, |table, name| table.get(*name)?.get_ref().as_table())?;
        let (key, value) = table.get_key_value(*last)?;
        Some(Entry { key: key.span(), span: value.span(), value: value.get_ref() })
    }

    /// Returns the keys of the table at a path, in the order of the file.
    pub(crate) fn names(&self, path: &[&str]) -> Vec<&str> {
        let table =
            path.iter().try_fold(&self.root, |table, name| table.get(*name)?.get_ref().as_table());
        let mut names: Vec<_> = table
            .into_iter()
            .flatten()
            .map(|(key, _)| (key.span().start, &**key.get_ref()))
            .collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// Returns the text of a span on one line, secrets masked.
    pub(crate) fn written(&self, span: &Range<usize>) -> String {
        let shown: String = self.shown(span).into_iter().map(|(_, c)| c).collect();
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Returns the number of the line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Returns the location of a span, for a fault.
    pub(crate) fn location(&self, span: &Range<usize>) -> Location {
        let (line, of_line) = self.line_of(span.start);
        let end = span.end.clamp(span.start, of_line.end.max(span.start));
        let column = self.chars(of_line.start..span.start) + 1;
        let shown = self.shown(&of_line);
        let before = |offset: usize| shown.iter().filter(|(at, _)| *at < offset).count();
        let (from, to) = (before(span.start), before(end));
        // of a very long line only the part around the span
        let cut = if shown.len() > MAX_SHOWN { from.saturating_sub(MAX_SHOWN / 4) } else { 0 };
        let source: String = shown.iter().skip(cut).take(MAX_SHOWN).map(|(_, c)| *c).collect();
        let caret = from - cut + 1;
        let width = to.min(cut + MAX_SHOWN).saturating_sub(from).max(1);
        Location::Line(Excerpt { file: Arc::clone(&self.file), line, column, source, caret, width })
    }

    /// Returns the number and the byte range of the line of an offset.
    fn line_of(&self, offset: usize) -> (usize, Range<usize>) {
        let line = self.line(offset);
        let start = self.lines[line - 1];
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        (line, start..end.max(start))
    }

    /// Returns the number of characters in a byte range.
    fn chars(&self, range: Range<usize>) -> usize {
        self.text.get(range).map_or(0, |text| text.chars().count())
    }

    /// Returns a part of the file as it may be shown: each character with its byte offset, those of
    /// a mask with the offset of the secret.
    fn shown(&self, range: &Range<usize>) -> Vec<(usize, char)> {
        let mut out = Vec::new();
        let mut masks =
            self.masked.iter().filter(|mask| mask.end > range.start && mask.start < range.end);
        let mut at = range.start;
        loop {
            let mask = masks.next();
            let until = mask.map_or(range.end, |mask| mask.start.max(at));
            let plain = self.text.get(at..until).unwrap_or_default();
            let visible = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
            out.extend(plain.char_indices().map(|(i, c)| (at + i, visible(c))));
            let Some(mask) = mask else { break };
            out.extend(MASK.chars().map(|c| (mask.start, c)));
            at = mask.end.min(range.end);
        }
        while out.last().is_some_and(|(_, c)| c.is_whitespace()) {
            out.pop();
        }
        out
    }

    /// Converts an error of the TOML parser.
    fn syntax_fault(&self, error: &toml::de::Error) -> Fault {
        let span = error.span().unwrap_or_default();
        let (line, of_line) = self.line_of(span.start);
        let column = self.chars(of_line.start..span.start) + 1;
        let written = self.text.get(of_line).unwrap_or_default().trim_end();
        let written: String = written.chars().take(MAX_SHOWN).collect();
        let (source, caret) = unparsed_line(&written, column);
        let width =
            self.chars(span).clamp(1, source.chars().count().saturating_sub(caret - 1).max(1));
        let excerpt = Excerpt { file: Arc::clone(&self.file), line, column, source, caret, width };
        Fault::error(Location::Line(excerpt), "", format!("not TOML: {}", error.message()))
    }
}

/// Returns a line that could not be parsed as it may be shown, and the position of the caret. It may
/// contain a secret anywhere: it is shown whole only when it is a header or sets one known key that
/// is no secret; else up to the first `=`.
fn unparsed_line(line: &str, column: usize) -> (String, usize) {
    let line: String =
        line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    let is_header = line.trim_start().starts_with('[') && !line.contains(['"', '\'', '=']);
    let shown = match line.split_once('=') {
        _ if is_header => line,
        Some((name, rest)) if !rest.contains('=') && is_known_and_public(name.trim()) => line,
        Some((name, _)) => format!("{name}= {MASK}"),
        // a bare word is most likely a key whose `=` is missing
        None if line.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && line.trim().len() < 24 =>
        {
            line
        }
        None => MASK.to_owned(),
    };
    let caret = column.min(shown.chars().count().max(1));
    (shown, caret)
}

/// Returns whether keys of this name exist and none of them is secret.
fn is_known_and_public(name: &str) -> bool {
    let last = |path: &'static str| path.rsplit('.').next();
    let mut found = keys::all().filter(|key| last(key.path) == Some(name)).peekable();
    (found.peek().is_some() && found.all(|key| !key.is_secret())) || Feature::parse(name).is_some()
}

/// Collects the spans that must not be shown: the strings of secrets, and everything under an
/// unknown key, since a misspelt `api_key` is one.
fn mask_secrets<'d>(table: &'d DeTable<'_>, path: &mut Vec<&'d str>, out: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        path.push(name.get_ref());
        match key_paths::find(path) {
            Some(key) if key.is_secret() => mask_secret(value, out),
            known => match value.get_ref() {
                DeValue::Table(inner) if !key_paths::children(path).is_empty() => {
                    mask_secrets(inner, path, out)
                }
                // a value instead of a table, or an unknown key
                _ if known.is_none() => mask_strings(value, out),
                DeValue::String(text) if may_carry_secret(text) => out.push(value.span()),
                DeValue::Array(items) => {
                    let with_user = |item: &&Spanned<DeValue<'_>>| {
                        item.get_ref().as_str().is_some_and(may_carry_secret)
                    };
                    out.extend(items.iter().filter(with_user).map(Spanned::span));
                }
                _ => {}
            },
        }
        path.pop();
    }
}

/// Collects the span of a secret in plain text. The name of a variable or a file is not one.
fn mask_secret(value: &Spanned<DeValue<'_>>, out: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (name, value) in table {
                let is_public = match (&**name.get_ref(), value.get_ref().as_str()) {
                    ("env", Some(text)) => is_variable_name(text),
                    ("file" | "name", Some(_)) | ("models", None) => true,
                    _ => false,
                };
                if !is_public {
                    mask_strings(value, out);
                }
            }
        }
        DeValue::Array(items) => items.iter().for_each(|item| mask_secret(item, out)),
        _ => out.push(value.span()),
    }
}

/// Collects the spans of all values below a value.
fn mask_strings(value: &Spanned<DeValue<'_>>, out: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => table.iter().for_each(|(_, value)| mask_strings(value, out)),
        DeValue::Array(items) => items.iter().for_each(|item| mask_strings(item, out)),
        _ => out.push(value.span()),
    }
}

/// Returns a path as the file writes it: names that are not bare are quoted.
pub(crate) fn path_text(path: &[&str]) -> String {
    let bare = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let part = |name: &&str| if bare(name) { (*name).to_owned() } else { format!("{name:?}") };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}
