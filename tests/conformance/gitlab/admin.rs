//! What an administrator presses (contract::gitlab_client §10) and what an editor needs to connect
//! (contract::gitlab_client §6.4).

use std::time::Duration;

use serde_json::{Value, json};

use super::GitLab;
use super::http::{Broken, Http, Request, seconds};

/// What the "Test connection" button says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Good,
    /// "The self-hosted model server returned code …"
    ModelServer(String),
    /// "AI Gateway returned code …": the status and the text, if Rails finds one.
    Gateway(u16, Option<String>),
    /// The exception's text.
    NoAnswer(Broken),
}

impl GitLab {
    /// The button in the form of this model (contract::gitlab_client §10.1). It waits 3 s: real
    /// ones, since the gateway's own limit for this call cannot be scaled.
    pub(crate) async fn test_connection(&self) -> Connection {
        let body = json!({"inputs": {}, "stream": false, "model_metadata": self.model}).to_string();
        let http = Http { patience: Duration::from_secs(3), ..self.http };
        match http.whole(Request::post("/v1/prompts/model_configuration%2Fcheck", &body)).await {
            Err(broken) => Connection::NoAnswer(broken),
            Ok((head, _)) if head.status == 200 => Connection::Good,
            Ok((head, body)) => {
                let detail =
                    serde_json::from_str::<Value>(&body).unwrap_or_default()["detail"].clone();
                match (head.status, detail.as_str()) {
                    (421, Some(text)) => Connection::ModelServer(text.to_owned()),
                    (status, _) => {
                        Connection::Gateway(status, detail[0]["msg"].as_str().map(str::to_owned))
                    }
                }
            }
        }
    }

    /// "Run health check": `HEAD`, any status is good (contract::gitlab_client §10.2).
    pub(crate) async fn health_check(&self) -> bool {
        let request = Request { method: "HEAD", path: "/", headers: &[], body: "" };
        let http = Http { patience: seconds(5), ..self.http };
        http.stream(request, |_, _| false).await.is_ok()
    }

    /// The rake task's probe (contract::gitlab_client §10.3): 200 within 10 s.
    pub(crate) async fn verify_setup(&self) -> bool {
        let request = Request {
            method: "GET",
            path: "/monitoring/healthz",
            headers: &[("accept", "application/json")],
            body: "",
        };
        let answer = Http { patience: seconds(10), ..self.http }.whole(request).await;
        answer.is_ok_and(|(head, body)| {
            head.status == 200 && serde_json::from_str::<Value>(&body).is_ok()
        })
    }

    /// A token for an editor that connects by itself (contract::gitlab_client §3.4): what the
    /// editor gets instead is a status.
    pub(crate) async fn user_token(&self) -> Result<String, u16> {
        let bearer = format!("Bearer {}", self.token);
        let request = Request {
            headers: &[("authorization", &bearer)],
            ..Request::post("/v1/code/user_access_token", "")
        };
        let (head, body) = self.http.whole(request).await.map_err(|_| 503_u16)?;
        let body: Value =
            if head.is_json() { serde_json::from_str(&body).unwrap() } else { Value::Null };
        let token =
            body["token"].as_str().filter(|token| !token.is_empty() && body["expires_at"].is_u64());
        if head.is_success() {
            token.map(str::to_owned).ok_or(head.status)
        } else {
            Err(head.status)
        }
    }
}
