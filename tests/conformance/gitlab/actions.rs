//! The AI actions of Rails (contract::gitlab_client §8.3): one prompt, one answer, behind retries
//! and a circuit breaker (contract::gitlab_client §11.3), and the two answers that Rails takes
//! apart: code reviews and vulnerability fixes.

use serde_json::{Value, json};

use super::http::{Request, seconds};
use super::{GitLab, Shown};

/// Requests for one action while the gateway says 429.
const TRIES: u32 = 3;
/// What the breaker wants to have seen before it opens.
const VOLUME: usize = 10;

/// Opens when at least half of ten calls or more ended in a 5xx or an exception. Then nothing is
/// called.
#[derive(Default)]
pub(crate) struct Breaker {
    calls: usize,
    failures: usize,
}

impl Breaker {
    fn count(&mut self, failed: bool) {
        self.calls += 1;
        self.failures += usize::from(failed);
    }

    fn is_open(&self) -> bool {
        self.calls >= VOLUME && self.failures * 2 >= self.calls
    }
}

/// What Rails shows when an action came to nothing, whatever the reason: "An unexpected error has
/// occurred."
pub(crate) const UNEXPECTED: Shown = Shown::Code("unexpected");

impl GitLab {
    /// Runs an action.
    pub(crate) async fn action(&self, id: &str, inputs: &Value) -> Shown {
        let body = self.with_metadata(json!({"inputs": inputs, "prompt_version": "^1.0.0"}));
        let path = format!("/{}/prompts/{}", self.prompts, id.replace('/', "%2F"));
        let mut text = None;
        for tried in 1..=TRIES {
            if self.breaker.lock().unwrap().is_open() {
                break;
            }
            let answer = self.http.whole(Request::post(&path, &body)).await;
            let status = answer.as_ref().map_or(0, |(head, _)| head.status);
            self.breaker.lock().unwrap().count(status == 0 || status >= 500);
            if status == 429 && tried < TRIES {
                tokio::time::sleep(seconds(3 * tried)).await;
                continue;
            }
            // a body that is not called JSON is not parsed (contract::gitlab_client §2.5)
            text = answer
                .ok()
                .filter(|(head, _)| head.is_success() && head.is_json())
                .and_then(|(_, body)| read(&body));
            break;
        }
        text.filter(|text| !text.is_empty()).map_or(UNEXPECTED, Shown::Text)
    }

    /// Whether the breaker keeps Rails from calling at all.
    pub(crate) fn breaker_is_open(&self) -> bool {
        self.breaker.lock().unwrap().is_open()
    }

    /// A review of a merge request: its comments. Without the files' contents once more when it
    /// failed.
    pub(crate) async fn review(&self, diff_lines: &str) -> Option<Vec<Comment>> {
        for full in ["The files in full:", ""] {
            let inputs = json!({"mr_title": "Cache it", "mr_description": "", "diff_lines": diff_lines,
                "full_file_intro": full, "full_content_section": full, "custom_instructions_section": ""});
            if let Shown::Text(text) = self.action("review_merge_request", &inputs).await {
                return Some(comments(&text));
            }
        }
        None
    }

    /// A fix of a vulnerability.
    pub(crate) async fn fix(&self, source: &str) -> Result<Fix, Shown> {
        let inputs = json!({"name": "XSS", "filename": "app.rb", "identifiers": "CWE-79", "vulnerable_code": source,
            "source_code": source, "vulnerability_description": "Output is not escaped."});
        match self.action("resolve_vulnerability", &inputs).await {
            Shown::Text(text) => Ok(Fix::read(&text)),
            shown @ Shown::Code(_) => Err(shown),
        }
    }
}

/// Either form on either version (contract::gitlab_client §8.1).
fn read(body: &str) -> Option<String> {
    let value: Value = serde_json::from_str(body).ok()?;
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// A comment of a review.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) file: String,
    pub(crate) old_line: Option<u32>,
    pub(crate) new_line: Option<u32>,
    pub(crate) body: String,
    /// `<from>` and `<to>`: what GitLab offers to replace.
    pub(crate) suggestion: Option<(String, String)>,
}

/// The comments of the last `<review>`: each starts a line, names a file and a line, ends at a
/// line's end.
pub(crate) fn comments(text: &str) -> Vec<Comment> {
    let Some((_, review)) = text.rsplit_once("<review>") else { return Vec::new() };
    let Some((review, _)) = review.split_once("</review>") else { return Vec::new() };
    let starts = format!("\n{review}");
    starts.split("\n<comment ").skip(1).filter_map(comment).collect()
}

fn comment(text: &str) -> Option<Comment> {
    let (attributes, rest) = text.split_once('>')?;
    let end = rest.match_indices("</comment>").find(|(at, tag)| {
        let after = &rest[at + tag.len()..];
        after.is_empty() || after.starts_with('\n')
    })?;
    let attribute = |name: &str| {
        let (_, value) = attributes.split_once(&format!("{name}=\""))?;
        value.split_once('"').map(|(value, _)| value).filter(|value| !value.is_empty())
    };
    let (old_line, new_line) = (attribute("old_line"), attribute("new_line"));
    if old_line.is_none() && new_line.is_none() {
        return None;
    }
    let body = rest[..end.0].trim();
    let tagged = |tag: &str| between(body, &format!("<{tag}>"), &format!("</{tag}>"));
    Some(Comment {
        file: attribute("file")?.to_owned(),
        old_line: old_line.map(|line| line.parse()).transpose().ok()?,
        new_line: new_line.map(|line| line.parse()).transpose().ok()?,
        body: body.split("<from>").next()?.trim().to_owned(),
        suggestion: tagged("from")
            .zip(tagged("to"))
            .map(|(from, to)| (from.to_owned(), to.to_owned())),
    })
}

/// A vulnerability's fix; without code it counts as a false positive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fix {
    pub(crate) code: Option<String>,
    pub(crate) analysis: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) is_false_positive: bool,
}

impl Fix {
    /// A newline after each opening tag is a must.
    pub(crate) fn read(text: &str) -> Self {
        let tagged = |tag: &str| {
            between(text, &format!("<{tag}>\n"), &format!("</{tag}>")).map(str::to_owned)
        };
        let code = tagged("fixed_code").filter(|code| !code.trim().is_empty());
        let stated = tagged("is_false_positive").is_some_and(|stated| stated.trim() == "true");
        Self {
            is_false_positive: stated || code.is_none(),
            code,
            analysis: tagged("analysis"),
            summary: tagged("summary"),
        }
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(open)?;
    after.split_once(close).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::{Fix, comments};

    #[test]
    fn only_the_last_review_counts_and_only_whole_comments() {
        let text = "<review><comment file=\"x\" new_line=\"1\">draft</comment></review>\n<review>\n\
            <comment file=\"a.rb\" old_line=\"\" new_line=\"12\">\nUse a set.\n<from>\n[1]\n</from>\n<to>\nSet[1]\n</to>\n</comment>\n\
            <comment file=\"a.rb\" old_line=\"\" new_line=\"\">\nNo line.\n</comment>\n\
            see <comment file=\"a.rb\" new_line=\"3\">not at a line's start</comment>\n</review>";
        let found = comments(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].file.as_str(), found[0].new_line, found[0].body.as_str()),
            ("a.rb", Some(12), "Use a set.")
        );
        assert_eq!(found[0].suggestion, Some(("\n[1]\n".into(), "\nSet[1]\n".into())));
    }

    #[test]
    fn a_fix_needs_its_newlines() {
        let fix = Fix::read("<analysis>\nbad\n</analysis>\n<fixed_code>\nh(x)\n</fixed_code>");
        assert_eq!((fix.code.as_deref(), fix.is_false_positive), (Some("h(x)\n"), false));
        assert!(Fix::read("<fixed_code>h(x)</fixed_code>").is_false_positive);
    }
}
