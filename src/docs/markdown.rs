//! One page of Markdown → its sections, cut to sizes that fit a prompt. What is markup for a web
//! site (front matter, comments, shortcodes, the targets of links) is left out: a model can do
//! nothing with it and pays for it.

/// A longer section is cut between its paragraphs. Twenty of these, the most that are asked for,
/// come to about 8 000 tokens, the official gateway's limit (ai-gateway-server.md §1.8).
const MAX_SECTION: usize = 1600;

/// A page.
pub(super) struct Page {
    /// From the front matter, else the first heading of the first level.
    pub(super) title: Option<String>,
    pub(super) sections: Vec<Section>,
}

/// What stands under one heading, or a part of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The headings that lead here below the page's title, outermost first.
    pub(super) headings: Vec<String>,
    pub(super) text: String,
}

/// Reads a page.
pub(super) fn read(text: &str) -> Page {
    let (front, body) = front_matter(text);
    let mut reader = Reader { title: front.and_then(title_in), ..Reader::default() };
    for line in body.lines() {
        reader.line(line);
    }
    reader.close();
    Page { title: reader.title, sections: reader.sections }
}

/// What stands between two lines of `---` at the top, and the rest.
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

fn title_in(front: &str) -> Option<String> {
    let value = front.lines().find_map(|line| line.strip_prefix("title:"))?.trim();
    let value = value.trim_matches(|c| c == '"' || c == '\'').trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[derive(Default)]
struct Reader {
    title: Option<String>,
    /// The open headings with their levels.
    headings: Vec<(usize, String)>,
    sections: Vec<Section>,
    /// Paragraphs of the open section, code blocks whole.
    paragraphs: Vec<String>,
    paragraph: String,
    /// What ends the open code block.
    fence: Option<String>,
    in_comment: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if self.fence.is_some() {
            return self.code(line);
        }
        let line = self.without_comments(line);
        let line = line.trim_end();
        if let Some(fence) = fence(line) {
            self.fence = Some(fence);
            return self.push(line);
        }
        if let Some((level, heading)) = heading(line) {
            return self.heading(level, &heading);
        }
        let said = inline(line);
        match (said.trim().is_empty(), line.trim().is_empty()) {
            (false, _) => self.push(&said),
            (true, true) => self.end_paragraph(),
            // nothing but markup
            (true, false) => {}
        }
    }

    fn code(&mut self, line: &str) {
        self.push(line);
        if self.fence.as_ref().is_some_and(|fence| line.trim().starts_with(fence.as_str())) {
            self.fence = None;
        }
    }

    fn push(&mut self, line: &str) {
        if !self.paragraph.is_empty() {
            self.paragraph.push('\n');
        }
        self.paragraph.push_str(line);
    }

    fn end_paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        self.paragraphs.extend(Some(paragraph).filter(|paragraph| !paragraph.trim().is_empty()));
    }

    fn heading(&mut self, level: usize, heading: &str) {
        self.close();
        if level == 1 && self.title.is_none() {
            self.title = Some(heading.to_owned());
        }
        self.headings.retain(|(open, _)| *open < level);
        // the page's title is no part of the way through the page
        if self.title.as_deref() != Some(heading) || level > 1 {
            self.headings.push((level, heading.to_owned()));
        }
    }

    /// Ends the open section: one or several of the right size.
    fn close(&mut self) {
        self.end_paragraph();
        let headings: Vec<String> =
            self.headings.iter().map(|(_, heading)| heading.clone()).collect();
        let mut text = String::new();
        let paragraphs = std::mem::take(&mut self.paragraphs);
        for piece in paragraphs.iter().flat_map(|paragraph| pieces(paragraph)) {
            if !text.is_empty() && text.len() + piece.len() + 2 > MAX_SECTION {
                self.sections
                    .push(Section { headings: headings.clone(), text: std::mem::take(&mut text) });
            }
            if !text.is_empty() {
                text.push_str("\n\n");
            }
            text.push_str(piece);
        }
        if !text.is_empty() {
            self.sections.push(Section { headings, text });
        }
    }

    /// A line without what stands in `<!-- … -->`, which may go over several.
    fn without_comments(&mut self, line: &str) -> String {
        let (mut out, mut rest) = (String::new(), line);
        loop {
            if self.in_comment {
                let Some((_, after)) = rest.split_once("-->") else { return out };
                (self.in_comment, rest) = (false, after);
            }
            let Some((before, after)) = rest.split_once("<!--") else { break };
            out.push_str(before);
            (self.in_comment, rest) = (true, after);
        }
        out.push_str(rest);
        out
    }
}

/// A paragraph in pieces of the right size, cut between lines where that is possible.
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

/// The characters that open a code block, which also close it.
fn fence(line: &str) -> Option<String> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let count = line.chars().take_while(|c| *c == mark).count();
    (count >= 3).then(|| mark.to_string().repeat(count))
}

/// `## Heading {#anchor}` → its level and its words.
fn heading(line: &str) -> Option<(usize, String)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let rest = line.get(level..)?.strip_prefix(' ').filter(|_| (1..=6).contains(&level))?;
    let rest = rest.trim().trim_end_matches('#').trim_end();
    let rest = rest.split_once(" {#").map_or(rest, |(words, _)| words);
    let words = inline(rest).replace('`', "");
    Some((level, words.trim().to_owned())).filter(|(_, words)| !words.is_empty())
}

/// A line without shortcodes (`{{< … >}}`), with the words of links and images instead of their
/// addresses.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['{', '[', '`']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        rest = if let Some((_, after)) =
            here.strip_prefix("{{<").and_then(|tag| tag.split_once(">}}"))
        {
            after
        } else if let Some((words, after)) = link(here) {
            if out.ends_with('!') {
                out.pop();
            }
            out.push_str(&inline(words));
            after
        } else if let Some((code, after)) =
            here.strip_prefix('`').and_then(|code| code.split_once('`'))
        {
            // code is no markup, whatever it looks like
            out.extend(["`", code, "`"]);
            after
        } else {
            let (bracket, after) = here.split_at(1);
            out.push_str(bracket);
            after
        };
    }
    out.push_str(rest);
    out
}

/// `[words](address)…` → the words and what follows.
fn link(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let close = text.char_indices().find_map(|(at, c)| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })?;
    let (_, after) = text[close + 1..].strip_prefix('(')?.split_once(')')?;
    Some((&text[1..close], after))
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
    fn sections_carry_the_way_to_them() {
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
        let words: usize = sections.iter().map(|(_, text)| text.matches("word").count()).sum();
        let letters: usize = sections.iter().map(|(_, text)| text.matches('é').count()).sum();
        assert_eq!((words, letters), (400, 2000));
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
        ] {
            read(odd);
        }
        assert_eq!(sections("---\nnot closed\n"), [pair("", "---\nnot closed")]);
    }
}
