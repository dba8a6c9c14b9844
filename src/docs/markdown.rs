//! One page of Markdown → its sections, cut to sizes that fit a prompt. What is markup for a web
//! site (front matter, comments, shortcodes, the targets of links) is left out: a model can do
//! nothing with it and pays for it. All other markup stays as it was written, since models read it.
//!
//! So the text is the page's source, less some spans of it; `pulldown-cmark` (CommonMark, with
//! tables) finds the spans. Front matter and shortcodes are Hugo's, not Markdown.

use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag};

/// The longest text of a section in bytes; a longer section becomes several, split between its
/// paragraphs. Twenty of these, the most that one search returns, come to about 8 000 tokens, the
/// official gateway's limit (contract::ai_gateway_server §1.8).
const MAX_SECTION: usize = 1600;

/// A parsed page.
pub(super) struct Page {
    /// The title: from the front matter, else the first heading of the first level.
    pub(super) title: Option<String>,
    pub(super) sections: Vec<Section>,
}

/// The text under one heading, or a part of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The headings that the text is under, outermost first, without the page's title.
    pub(super) headings: Vec<String>,
    pub(super) text: String,
}

/// Parses a page. Any text is a page.
pub(super) fn read(text: &str) -> Page {
    let (front, body) = front_matter(text);
    let source = Source::parse(body);
    let mut outline = Outline { title: front.and_then(title_in), ..Outline::default() };
    let mut at = 0;
    for heading in &source.headings {
        let title = source.heading_text(heading);
        // a heading without text stays in the text
        if !title.is_empty() {
            outline.add_text(&source.paragraphs(at..heading.span.start));
            outline.add_heading(heading.level, &title);
            at = heading.span.end;
        }
    }
    outline.add_text(&source.paragraphs(at..body.len()));
    Page { title: outline.title, sections: outline.sections }
}

/// Splits a page into its front matter, the lines between two `---` at the top, and the rest.
fn front_matter(text: &str) -> (Option<&str>, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else {
        return (None, text);
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if matches!(line.trim_end(), "---" | "...") {
            return (Some(&rest[..at]), &rest[at + line.len()..]);
        }
        at += line.len();
    }
    (None, text)
}

/// Returns the `title` of a page's front matter.
fn title_in(front: &str) -> Option<String> {
    let value = front.lines().find_map(|line| line.strip_prefix("title:"))?.trim();
    let value = value.trim_matches(|c| c == '"' || c == '\'').trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// A page's Markdown with the spans of it that matter here, in the order of the page.
#[derive(Default)]
struct Source<'a> {
    text: &'a str,
    headings: Vec<Heading>,
    /// Whole blocks, and code within a line.
    code: Vec<Range<usize>>,
    code_blocks: Vec<Range<usize>>,
    /// Markup to leave out. The spans do not overlap.
    removed: Vec<Range<usize>>,
}

/// A heading that is not part of a quotation or a list.
struct Heading {
    level: usize,
    span: Range<usize>,
    content: Range<usize>,
}

/// An element whose end has not come yet.
struct Open<'a> {
    tag: Tag<'a>,
    span: Range<usize>,
    /// From the start of its first child to the end of its last.
    content: Option<Range<usize>>,
}

impl<'a> Source<'a> {
    fn parse(text: &'a str) -> Self {
        let mut source = Self { text, ..Self::default() };
        // without footnotes, a footnote's text would be the target of a link
        let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
        let events = Parser::new_ext(text, options).into_offset_iter();
        let definitions = events.reference_definitions().iter();
        source.removed.extend(definitions.map(|(_, definition)| definition.span.clone()));
        let mut open: Vec<Open<'_>> = Vec::new();
        for (event, span) in events {
            if matches!(event, Event::End(_)) {
                if let Some(element) = open.pop() {
                    source.add_element(element, open.is_empty());
                }
                continue;
            }
            if let Some(parent) = open.last_mut() {
                parent.content.get_or_insert(span.clone()).end = span.end;
            }
            match event {
                Event::Start(tag) => open.push(Open { tag, span, content: None }),
                Event::Code(_) => source.code.push(span),
                Event::InlineHtml(_) => source.remove_comments(span),
                _ => {}
            }
        }
        source.remove_shortcodes();
        source.removed = merge(source.removed);
        source
    }

    fn add_element(&mut self, element: Open<'_>, is_top_level: bool) {
        let Open { tag, span, content } = element;
        let content = content.unwrap_or(span.end..span.end);
        match tag {
            Tag::Heading { level, .. } if is_top_level => {
                self.headings.push(Heading { level: level as usize, span, content });
            }
            // `<https://example.com>`: the address is the text
            Tag::Link { link_type: LinkType::Autolink | LinkType::Email, .. } => {}
            Tag::Link { .. } | Tag::Image { .. } => {
                self.removed.extend([span.start..content.start, content.end..span.end]);
            }
            Tag::CodeBlock(_) => {
                self.code.push(span.clone());
                self.code_blocks.push(span);
            }
            Tag::HtmlBlock => self.remove_comments(span),
            _ => {}
        }
    }

    /// Removes the comments that start in a span of HTML. Each ends at `-->`, also where CommonMark
    /// ends the HTML before that, or else at the end of the page.
    fn remove_comments(&mut self, html: Range<usize>) {
        let mut at = html.start;
        while let Some(offset) = self.text.get(at..html.end).and_then(|rest| rest.find("<!--")) {
            let start = at + offset;
            // `<!-->` is a whole comment
            let length = self.text[start + 2..].find("-->").map(|length| 2 + length + 3);
            at = length.map_or(self.text.len(), |length| start + length);
            self.removed.push(start..at);
        }
    }

    /// Removes the shortcodes, `{{< … >}}` within one line, that are not in code.
    fn remove_shortcodes(&mut self) {
        for (start, _) in self.text.match_indices("{{<") {
            let line = self.text[start..].lines().next().unwrap_or_default();
            let end = line.find(">}}").map(|length| start + length + 3);
            let in_code = overlaps(&self.code, &(start..start + 1));
            self.removed.extend(end.filter(|_| !in_code).map(|end| start..end));
        }
    }

    /// Returns a span's text less what is removed.
    fn text(&self, span: Range<usize>) -> String {
        let mut text = String::with_capacity(span.len());
        let mut at = span.start;
        let first = self.removed.partition_point(|removed| removed.end <= span.start);
        for removed in self.removed[first..].iter().take_while(|removed| removed.start < span.end) {
            text.push_str(self.text.get(at..removed.start).unwrap_or_default());
            at = removed.end.min(span.end);
        }
        text.push_str(&self.text[at..span.end]);
        text
    }

    /// Returns a heading's words on one line, without its anchor (`{#anchor}`).
    fn heading_text(&self, heading: &Heading) -> String {
        let text = self.text(heading.content.clone()).replace('`', "");
        let text = text.split_once(" {#").map_or(&*text, |(title, _)| title);
        text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    /// Returns the paragraphs of a span, which blank lines separate. A code block is never split.
    fn paragraphs(&self, span: Range<usize>) -> Vec<String> {
        let mut paragraphs = Vec::new();
        let mut open = String::new();
        let mut at = span.start;
        for line in self.text[span].split_inclusive('\n') {
            let span = at..at + line.len();
            at = span.end;
            if overlaps(&self.code_blocks, &span) {
                push_line(&mut open, line.trim_end_matches(['\r', '\n']));
            } else if line.trim().is_empty() {
                paragraphs.push(std::mem::take(&mut open));
            } else {
                let text = self.text(span);
                // a line that is markup only leaves nothing
                if !text.trim().is_empty() {
                    push_line(&mut open, text.trim_end());
                }
            }
        }
        paragraphs.push(open);
        paragraphs.retain(|paragraph| !paragraph.trim().is_empty());
        paragraphs
    }
}

fn push_line(paragraph: &mut String, line: &str) {
    if !paragraph.is_empty() {
        paragraph.push('\n');
    }
    paragraph.push_str(line);
}

/// Sorts spans and joins those that overlap.
fn merge(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_unstable_by_key(|span| span.start);
    spans.dedup_by(|next, last| {
        let joined = next.start <= last.end;
        if joined {
            last.end = last.end.max(next.end);
        }
        joined
    });
    spans
}

/// Returns whether a span has a byte in common with one of `sorted`, which do not overlap.
fn overlaps(sorted: &[Range<usize>], span: &Range<usize>) -> bool {
    let next = sorted.partition_point(|other| other.end <= span.start);
    sorted.get(next).is_some_and(|other| other.start < span.end)
}

/// The sections of a page, in the order of its headings.
#[derive(Default)]
struct Outline {
    title: Option<String>,
    /// The headings that the next text is under, with their levels.
    headings: Vec<(usize, String)>,
    sections: Vec<Section>,
}

impl Outline {
    fn add_heading(&mut self, level: usize, text: &str) {
        if level == 1 && self.title.is_none() {
            self.title = Some(text.to_owned());
        }
        self.headings.retain(|(open, _)| *open < level);
        // the page's title applies to all of the page
        if self.title.as_deref() != Some(text) || level > 1 {
            self.headings.push((level, text.to_owned()));
        }
    }

    /// Adds the text under the last heading, as one section or several.
    fn add_text(&mut self, paragraphs: &[String]) {
        let mut text = String::new();
        for piece in paragraphs.iter().flat_map(|paragraph| pieces(paragraph)) {
            if !text.is_empty() && text.len() + piece.len() + 2 > MAX_SECTION {
                self.add_section(std::mem::take(&mut text));
            }
            if !text.is_empty() {
                text.push_str("\n\n");
            }
            text.push_str(piece);
        }
        if !text.is_empty() {
            self.add_section(text);
        }
    }

    fn add_section(&mut self, text: String) {
        let headings = self.headings.iter().map(|(_, heading)| heading.clone()).collect();
        self.sections.push(Section { headings, text });
    }
}

/// Splits a paragraph into pieces of at most `MAX_SECTION` bytes, between lines where possible,
/// else between words.
fn pieces(paragraph: &str) -> Vec<&str> {
    let (mut out, mut rest) = (Vec::new(), paragraph);
    while rest.len() > MAX_SECTION {
        let limit =
            (0..=MAX_SECTION).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let cut = rest[..limit]
            .rfind('\n')
            .or_else(|| rest[..limit].rfind(' '))
            .filter(|at| *at > 0)
            .unwrap_or(limit);
        out.push(&rest[..cut]);
        rest = rest[cut..].trim_start_matches([' ', '\n']);
    }
    out.push(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{MAX_SECTION, read};

    fn sections(text: &str) -> Vec<(String, String)> {
        read(text)
            .sections
            .into_iter()
            .map(|section| (section.headings.join(" > "), section.text))
            .collect()
    }

    fn pair(headings: &str, text: &str) -> (String, String) {
        (headings.to_owned(), text.to_owned())
    }

    #[test]
    fn sections_carry_their_headings() {
        let page = "---\nstage: Any\ntitle: 'Protected branches'\n---\n\nIntro.\n\n## Add {#add}\n\nOne.\n\n### By API\n\nTwo.\n\n## Remove ##\n\n### Empty\n";
        assert_eq!(read(page).title.as_deref(), Some("Protected branches"));
        assert_eq!(
            sections(page),
            [pair("", "Intro."), pair("Add", "One."), pair("Add > By API", "Two.")]
        );
        let old = "# Title `here`\nText\n# Second\nMore";
        assert_eq!(read(old).title.as_deref(), Some("Title here"));
        assert_eq!(sections(old), [pair("", "Text"), pair("Second", "More")]);
    }

    #[test]
    fn markup_is_left_out_and_code_is_kept() {
        let page = "{{< details >}}\n\nSee [the *docs*](../x.md) and ![a picture](i.png), `[not](a link)`.\n\n\
                    <!-- one --> a <!-- two\nmore --> b\n\n```yaml\n# no heading\n\n<!-- kept -->\n```\n\n- [ ] box [a][b]\n";
        let text = "See the *docs* and a picture, `[not](a link)`.\n\n a\n b\n\n```yaml\n# no heading\n\n<!-- kept -->\n```\n\n- [ ] box [a][b]";
        assert_eq!(sections(page), [pair("", text)]);
    }

    #[test]
    fn markup_is_found_as_commonmark_has_it() {
        let page = "Title\n=====\n\nOn [two\nlines](x.md), [by name][a], <https://b.test>[^1].\n\n[a]: c.md\n\n\
                    ``a ` [b](c)``\n\n> ```\n> {{< kept >}}\n> ```\n\n## `One` [two](d.md) {#anchor}\n\n[^1]: Note.\n";
        assert_eq!(read(page).title.as_deref(), Some("Title"));
        let text = "On two\nlines, by name, <https://b.test>[^1].\n\n``a ` [b](c)``\n\n> ```\n> {{< kept >}}\n> ```";
        assert_eq!(sections(page), [pair("", text), pair("One two", "[^1]: Note.")]);
    }

    #[test]
    fn long_sections_are_cut_between_paragraphs_or_lines() {
        let paragraph = "word ".repeat(100);
        let page = format!(
            "## H\n\n{0}\n\n{0}\n\n{0}\n\n{0}\n\n{1}\n",
            paragraph.trim(),
            "é".repeat(2000)
        );
        let sections = sections(&page);
        assert!(sections.iter().all(|(heading, text)| heading == "H"
            && text.len() <= MAX_SECTION
            && !text.is_empty()));
        assert_eq!(sections.len(), 5);
        let word_count: usize = sections.iter().map(|(_, text)| text.matches("word").count()).sum();
        let letter_count: usize = sections.iter().map(|(_, text)| text.matches('é').count()).sum();
        assert_eq!((word_count, letter_count), (400, 2000));
    }

    #[test]
    fn anything_is_a_page() {
        for odd in [
            "",
            "---\n",
            "---\ntitle:\n---\n",
            "#",
            "# ",
            "```",
            "[",
            "](",
            "{{<",
            "`",
            "<!--",
            "\u{feff}x",
            "[[](",
            "`(a)`",
        ] {
            read(odd);
        }
        assert_eq!(sections("---\nnot closed\n"), [pair("", "---\nnot closed")]);
    }
}
