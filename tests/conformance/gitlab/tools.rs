//! Chat's tools and slash commands (contract::gitlab_client §8.2): prompts that stream raw text,
//! and what Rails reads out of it.

use serde_json::{Value, json};

use super::http::{Broken, Request};
use super::{GitLab, Shown};

/// How often a reader asks for JSON that can be read.
const ATTEMPTS: usize = 3;

/// A tool that Rails can run (contract::gitlab_client §7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Finds out which issue, epic, … is meant; the prompt's name.
    Reader(&'static str),
    Documentation,
}

impl Tool {
    pub(crate) fn named(name: &str) -> Option<Self> {
        let readers = [
            "build_reader",
            "issue_reader",
            "epic_reader",
            "merge_request_reader",
            "commit_reader",
            "work_item_reader",
        ];
        match readers.into_iter().find(|reader| *reader == name) {
            Some(reader) => Some(Self::Reader(reader)),
            None => (name == "gitlab_documentation").then_some(Self::Documentation),
        }
    }
}

/// Why a streamed prompt gave no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// 403.
    Forbidden,
    /// Any other status but 2xx.
    Status(u16),
    /// No answer, or none to its end.
    Connection(Broken),
}

/// What came of a streamed prompt.
pub(crate) struct Streamed {
    /// What the user saw as it came; Rails looks at the status only afterwards
    /// (contract::gitlab_client §11.3).
    pub(crate) seen: String,
    pub(crate) ended: Result<(), Failed>,
}

impl GitLab {
    /// A prompt, streamed.
    pub(crate) async fn stream(&self, id: &str, inputs: &Value) -> Streamed {
        let body = self
            .with_metadata(json!({"stream": true, "inputs": inputs, "prompt_version": "^1.0.0"}));
        let path = format!("/v1/prompts/{}", id.replace('/', "%2F"));
        let mut seen = Vec::new();
        let ended = self.http.stream(Request::post(&path, &body), |_, piece| {
            seen.extend_from_slice(piece);
            true
        });
        let ended = match ended.await {
            Ok(head) if head.status == 403 => Err(Failed::Forbidden),
            Ok(head) if !head.is_success() => Err(Failed::Status(head.status)),
            Ok(_) => Ok(()),
            Err(broken) => Err(Failed::Connection(broken)),
        };
        Streamed { seen: String::from_utf8(seen).unwrap(), ended }
    }

    /// `/explain` and its like: every exception is M4000.
    pub(crate) async fn slash_command(&self, id: &str, inputs: &Value) -> Shown {
        let streamed = self.stream(id, inputs).await;
        if streamed.ended.is_ok() { Shown::Text(streamed.seen) } else { Shown::Code("M4000") }
    }

    /// Runs a tool of the chat agent; the observation, or the code that ends the question.
    pub(crate) async fn run(&self, tool: Tool, input: &str) -> Result<String, &'static str> {
        match tool {
            Tool::Reader(name) => {
                let resource = self.read_resource(name, input).await?;
                Ok(format!("Information about {}: it is open.", resource["ResourceIdentifier"]))
            }
            Tool::Documentation => self.documentation(input).await.map(|found| found.text),
        }
    }

    /// Which resource is meant. Unreadable JSON is requested again; then M3003. Any exception is
    /// M4001.
    pub(crate) async fn read_resource(
        &self,
        reader: &str,
        input: &str,
    ) -> Result<Value, &'static str> {
        let mut suggestions = String::new();
        for _ in 0..ATTEMPTS {
            let inputs = json!({"input": input, "suggestions": suggestions});
            let streamed = self.stream(&format!("chat/{reader}"), &inputs).await;
            if streamed.ended.is_err() {
                return Err("M4001");
            }
            match resource(&streamed.seen) {
                Some(resource) => return Ok(resource),
                None => suggestions.push_str("The last answer was no JSON.\n"),
            }
        }
        Err("M3003")
    }

    /// What the documentation says to a question (contract::gitlab_client §9.1). Without a list of
    /// results the tool raises.
    pub(crate) async fn search_docs(&self, question: &str) -> Result<Vec<Value>, &'static str> {
        let search = json!({"type": "search-docs", "metadata": {"source": "GitLab EE", "version": "18.9.0"},
            "payload": {"query": question}});
        let path = "/v1/search/gitlab-docs";
        let found = self.http.whole(Request::post(path, &search.to_string())).await;
        let (head, body) = found.map_err(|_| "A9999")?;
        let body: Value =
            if head.is_json() { serde_json::from_str(&body).unwrap() } else { Value::Null };
        body["response"]["results"].as_array().cloned().ok_or("A9999")
    }

    /// The documentation tool: search, then a prompt over what was found
    /// (contract::gitlab_client §9.1, §8.2).
    pub(crate) async fn documentation(&self, question: &str) -> Result<Documented, &'static str> {
        if question.is_empty() {
            return Err("M2000");
        }
        let documents = self.search_docs(question).await?;
        let inputs = json!({"question": question, "content_id": "ATTRS", "documents": documents});
        let streamed = self.stream("chat/documentation_search", &inputs).await;
        match streamed.ended {
            Ok(()) => Ok(Documented::read(&streamed.seen, &documents)),
            Err(Failed::Forbidden) => Err("M3005"),
            Err(_) => Err("A9999"),
        }
    }
}

/// An answer about GitLab and the pages it came from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Documented {
    pub(crate) text: String,
    pub(crate) sources: Vec<String>,
}

impl Documented {
    /// `ATTRS:` and lines `CNT-IDX-<id>` name the documents that were used; an answer that does not
    /// know has none.
    fn read(text: &str, documents: &[Value]) -> Self {
        let (text, used) = text.split_once("ATTRS").unwrap_or((text, ""));
        let ids: Vec<&str> = used
            .split("CNT-IDX-")
            .skip(1)
            .map(|rest| {
                let end = rest
                    .find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                &rest[..end]
            })
            .collect();
        let lower = text.to_lowercase();
        let is_lost = ["i don't know", "i do not know"].iter().any(|phrase| lower.contains(phrase));
        let used = documents.iter().filter(|document| ids.iter().any(|id| document["id"] == *id));
        let sources = used
            .filter_map(|document| document["metadata"]["filename"].as_str().map(str::to_owned));
        Self { text: text.trim().to_owned(), sources: sources.filter(|_| !is_lost).collect() }
    }
}

/// The JSON that names a resource: fenced or not, whole or only what follows the opening that the
/// prompt gave.
fn resource(text: &str) -> Option<Value> {
    let whole = if text.contains("ResourceIdentifierType") {
        text.to_owned()
    } else {
        format!("```json\n{{\"ResourceIdentifierType\": \"{text}")
    };
    let until = whole.split("Question:").next()?;
    let after = until.split_once("```json").map_or(until, |(_, after)| after);
    let json = after.split("```").next()?;
    let value: Value = serde_json::from_str(json.trim()).ok()?;
    let kind = value["ResourceIdentifierType"].as_str()?;
    let known = ["current", "iid", "url", "reference"].contains(&kind);
    (known && !value["ResourceIdentifier"].is_null()).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Documented, resource};

    #[test]
    fn resources_are_named_whole_fenced_or_continued() {
        let expected = Some(json!({"ResourceIdentifierType": "iid", "ResourceIdentifier": 123}));
        let whole = r#"{"ResourceIdentifierType": "iid", "ResourceIdentifier": 123}"#;
        assert_eq!(resource(whole), expected);
        assert_eq!(resource(&format!("Here:\n```json\n{whole}\n```\nQuestion: next")), expected);
        assert_eq!(resource(r#"iid", "ResourceIdentifier": 123}"#), expected);
        assert_eq!(resource("I think it is issue 123"), None);
    }

    #[test]
    fn sources_are_those_that_were_used() {
        let documents = [
            json!({"id": "a1", "content": "x", "metadata": {"filename": "https://docs/a"}}),
            json!({"id": "b2", "content": "y", "metadata": {"filename": "https://docs/b"}}),
        ];
        let found = Documented::read("Press it.\nATTRS:\nCNT-IDX-b2\nCNT-IDX-zz", &documents);
        assert_eq!(
            (found.text.as_str(), found.sources),
            ("Press it.", vec!["https://docs/b".to_owned()])
        );
        assert!(
            Documented::read("I do not know. ATTRS: CNT-IDX-b2", &documents).sources.is_empty()
        );
    }
}
