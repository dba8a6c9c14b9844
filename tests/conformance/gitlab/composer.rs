//! The composer of merge request descriptions: Rails asks Anthropic for the text, through the
//! gateway (contract::gitlab_client §9.2).

use serde_json::{Value, json};

use super::GitLab;
use super::http::Request;

impl GitLab {
    /// A description for these changes; else the status, 0 where there is no answer to read.
    /// Whatever model GitLab has in its settings, it names one of Anthropic's.
    pub(crate) async fn compose_description(&self, diff: &str) -> Result<String, u16> {
        let body = json!({"messages": [{"role": "user", "content": format!("Describe this:\n{diff}")}],
            "system": "You write descriptions of merge requests.", "model": "claude-3-7-sonnet-20250219",
            "max_tokens": 2048, "temperature": 0})
        .to_string();
        let request = Request {
            headers: &[
                ("x-gitlab-unit-primitive", "description_composer"),
                ("anthropic-version", "2023-06-01"),
            ],
            ..Request::post("/v1/proxy/anthropic/v1/messages", &body)
        };
        let (head, body) = self.http.whole(request).await.map_err(|_| 0_u16)?;
        if !head.is_success() {
            return Err(head.status);
        }
        let body: Value =
            if head.is_json() { serde_json::from_str(&body).unwrap() } else { Value::Null };
        body["content"][0]["text"].as_str().map(str::to_owned).ok_or(0)
    }
}
