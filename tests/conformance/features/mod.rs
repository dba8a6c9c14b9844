//! Each feature of GitLab from its user's chair: the happy path, and everything that can go wrong
//! with a model.

mod actions;
mod admin;
mod chat;
mod code;
mod composer;
mod direct;
mod docs;
mod embeddings;
mod tools;

use crate::gitlab::GitLab;
use crate::support::upstream::{Received, says};
use crate::support::{Gateway, Reply, Upstream, one_model};

/// Well below GitLab's own times, which are scaled in `gitlab`.
const SCALED: &str = "[timeouts]\nfirst_byte = \"600ms\"\nidle = \"600ms\"\ntotal = \"900ms\"\n";

/// A GitLab, its gateway and the operator's model.
struct Scene {
    gitlab: GitLab,
    upstream: Upstream,
    _gateway: Gateway,
}

impl Scene {
    /// The operator's model for every feature.
    async fn new(model: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(model, "", SCALED).await
    }

    /// With this feature disabled.
    async fn disabled(feature: &str) -> Self {
        Self::with(|_| Reply::closed(), &format!("{feature} = \"disabled\"\n"), SCALED).await
    }

    /// With everything disabled that is not set by itself: a model is there, and nothing is to use
    /// it.
    async fn all_disabled() -> Self {
        let upstream = Upstream::start(|_| Reply::closed()).await;
        let file = one_model(&upstream.url()).replace("default = \"m\"", "default = \"disabled\"");
        let gateway = Gateway::start(&format!("{file}{SCALED}")).await;
        Self { gitlab: GitLab::new(gateway.public), upstream, _gateway: gateway }
    }

    /// With these lines in `[features]`, and these tables after it.
    async fn with(
        model: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        features: &str,
        tables: &str,
    ) -> Self {
        let upstream = Upstream::start(model).await;
        let gateway =
            Gateway::start(&format!("{}{features}{tables}", one_model(&upstream.url()))).await;
        Self { gitlab: GitLab::new(gateway.public), upstream, _gateway: gateway }
    }

    /// A model that answers every question with these words.
    async fn says(text: &'static str) -> Self {
        Self::new(move |request| says(request, text)).await
    }

    /// GitLab's own settings name the model; the gateway's file names none.
    async fn of_gitlab(
        family: &str,
        model: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let upstream = Upstream::start(model).await;
        let gateway =
            Gateway::start(&format!("[features]\nrequest_loopback = true\n{SCALED}")).await;
        let gitlab =
            GitLab::with_model(gateway.public, family, &upstream.url(), "custom_openai/up");
        Self { gitlab, upstream, _gateway: gateway }
    }

    /// How often the model was called.
    fn received(&self) -> usize {
        self.upstream.requests().len()
    }
}

/// What can go wrong with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// 401: the operator's key is wrong.
    Refuses,
    /// 500.
    Breaks,
    /// 429 with `Retry-After: 1`.
    IsBusy,
    /// It takes the request and says nothing.
    IsSilent,
    /// It stops in the middle of its answer and closes.
    IsCut,
    /// 200 with something that no model says.
    TalksGarbage,
}

const FAULTS: [Fault; 6] = [
    Fault::Refuses,
    Fault::Breaks,
    Fault::IsBusy,
    Fault::IsSilent,
    Fault::IsCut,
    Fault::TalksGarbage,
];

impl Fault {
    fn reply(self, request: &Received) -> Reply {
        let json = [("content-type", "application/json"), ("retry-after", "1")];
        let failed =
            |status| Reply::whole(status, &json[..1], r#"{"error":{"message":"scripted fault"}}"#);
        let wants_stream = request.json()["stream"] == true;
        match self {
            Self::Refuses => failed(401),
            Self::Breaks => failed(500),
            Self::IsBusy => Reply::whole(429, &json, r#"{"error":{"message":"scripted fault"}}"#),
            Self::IsSilent => Reply::stalled(),
            Self::IsCut if wants_stream => {
                Reply::sse().text("Final Answer: it").text(" is").then_close()
            }
            Self::IsCut => Reply::raw(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"choices\":[",
            ),
            Self::TalksGarbage if wants_stream => Reply::sse().event("<html>").end(),
            Self::TalksGarbage => Reply::whole(200, &json[..1], "<html>"),
        }
    }
}
