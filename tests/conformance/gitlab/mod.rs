//! The client side of GitLab, written from contract::gitlab_client: what its parts send, how they
//! read an answer, what they do about a failure and what their user sees of it. Times are scaled:
//! 50 ms stand for a second.

pub(crate) mod actions; // the AI actions of Rails: one prompt, one answer
pub(crate) mod admin; // what an administrator presses
pub(crate) mod chat; // Duo Chat's loop of steps
pub(crate) mod composer; // descriptions of merge requests
pub(crate) mod embeddings; // semantic code search
pub(crate) mod http; // the HTTP client's rules about time
pub(crate) mod ide; // code suggestions: Workhorse and the editor behind it
#[cfg(test)]
mod tests; // the rules bite: a gateway that breaks them
pub(crate) mod tools; // chat's tools and slash commands
pub(crate) mod wire; // lines and events, as GitLab's parsers take them

use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::{Value, json};

use actions::Breaker;
use http::Http;

/// A GitLab whose "Local AI Gateway URL" is a gateway.
pub(crate) struct GitLab {
    http: Http,
    /// The self-hosted model of its feature settings (contract::gitlab_client §4.1), if there is
    /// one.
    model: Option<Value>,
    /// Whether the flag `ai_prompts_v2` is on.
    prompts: &'static str,
    /// What it shows of itself when it asks for a user's token (contract::gitlab_client §3.1); the
    /// other calls are to gateways without keys.
    token: String,
    breaker: Mutex<Breaker>,
}

impl GitLab {
    /// Its features are set to no model: the gateway's operator decides.
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        Self {
            http: Http::rails(gateway),
            model: None,
            prompts: "v1",
            token: String::new(),
            breaker: Mutex::default(),
        }
    }

    /// Its features are set to this self-hosted model.
    pub(crate) fn with_model(
        gateway: SocketAddr,
        family: &str,
        endpoint: &str,
        identifier: &str,
    ) -> Self {
        let model = json!({
            "provider": "openai", "name": family, "endpoint": endpoint, "api_key": "token", "identifier": identifier,
        });
        Self { model: Some(model), ..Self::new(gateway) }
    }

    /// With this token of its own.
    pub(crate) fn with_token(self, token: String) -> Self {
        Self { token, ..self }
    }

    /// With objects instead of strings for answers (contract::gitlab_client §8.1).
    pub(crate) fn prompts_v2(self) -> Self {
        Self { prompts: "v2", ..self }
    }

    /// `model_metadata` goes along when there is a model; else the key is absent
    /// (contract::gitlab_client §4.1).
    fn with_metadata(&self, mut body: Value) -> String {
        if let Some(model) = &self.model {
            body["model_metadata"] = model.clone();
        }
        body.to_string()
    }
}

/// What the user of a feature sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The model's words.
    Text(String),
    /// GitLab's sentence for this code (contract::gitlab_client §11.1, §11.2).
    Code(&'static str),
}

impl Shown {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// What Rails sends with every call (contract::gitlab_client §2.1), without credentials.
pub(crate) fn headers() -> Vec<(&'static str, &'static str)> {
    vec![
        ("content-type", "application/json"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3"),
        ("user-agent", "Ruby"),
        ("x-gitlab-authentication-type", "oidc"),
        ("x-request-id", "01KCORRELATION0000000000000"),
        ("x-gitlab-rails-send-start", "1795470154.123456"),
        ("x-gitlab-host-name", "gitlab.example.com"),
        ("x-gitlab-instance-id", "11111111-2222-4333-8444-555555555555"),
        ("x-gitlab-realm", "self-managed"),
        ("x-gitlab-deployment-type", "self-managed"),
        ("x-gitlab-version", "18.9.0"),
        ("x-gitlab-global-user-id", "user-of-this-instance"),
        ("x-gitlab-user-id", "1"),
        ("x-gitlab-feature-enabled-by-namespace-ids", ""),
        ("x-gitlab-feature-enablement-type", "duo_enterprise"),
        ("x-gitlab-enabled-feature-flags", ""),
        ("x-gitlab-enabled-instance-verbose-ai-logs", "false"),
        ("x-gitlab-is-team-member", "false"),
    ]
}
