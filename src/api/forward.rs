//! Requests that are not answered here but go on as they came: `"gitlab"` in `[features]`.
//!
//! The caller's own token goes with them, so it must be one that the other side knows: a key of
//! this gateway's file is nobody's business there. Nor is a self-hosted model's address and key,
//! which the other side refuses anyway (ai-gateway-server.md §2.1).

use bytes::Bytes;
use hyper::body::Incoming;

use super::endpoint::not_found;
use super::{Answer, Context};
use crate::auth::Caller;
use crate::error::{GatewayError, Kind};
use crate::provider::{Received, forwarded};
use crate::relay::Passed;
use crate::route::{Ask, Route};

/// A call of GitLab's that this version does not know: `features.default` says whether the cloud
/// gets it. To the holder of a static key it is a path like any other that is not there.
pub(super) async fn elsewhere(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let route = context.snapshot.table.resolve(Ask::default()).ok();
    match route.filter(|route| route.model.provider.is_gateway()) {
        Some(route) if !matches!(context.caller, Caller::Key(_)) => {
            context.routed(&route);
            let bytes = context.body(incoming).await?;
            context.forward(&route, false, &bytes).await
        }
        _ => Err(not_found(context.parts.uri.path())),
    }
}

impl Context<'_> {
    /// Passes the request on along this route, and the answer back, byte for byte.
    pub(super) async fn forward(
        &mut self,
        route: &Route,
        names_a_model: bool,
        body: &Bytes,
    ) -> Answer {
        match self.caller {
            Caller::Anyone | Caller::Gitlab(_) => {}
            Caller::Key(_) => {
                return Err(GatewayError::new(
                    Kind::Forbidden,
                    "This feature is GitLab's AI vendor model, which takes GitLab's own tokens only: a static key of \
                     this gateway does not open it",
                ));
            }
            Caller::User(_) => {
                return Err(GatewayError::new(
                    Kind::Forbidden,
                    "This feature is GitLab's AI vendor model, which knows no token of this gateway: turn direct \
                     connections off in GitLab",
                ));
            }
        }
        if names_a_model {
            return Err(GatewayError::new(
                Kind::EndpointRefused,
                "The request names a self-hosted model, but this gateway sends the feature to GitLab's cloud \
                 (\"gitlab\" in [features]), where the model's address and key must not go: choose the GitLab AI vendor \
                 model in GitLab too, or name a model in [features]",
            ));
        }
        let (method, headers) = (&self.parts.method, &self.parts.headers);
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let outbound = forwarded(&Received { method, target, headers, body });
        self.relay
            .pass(
                self.call(route),
                Passed { outbound, stream: false, hide_usage: false },
                self.facts,
            )
            .await
    }
}
