//! Requests that are not answered here but passed on unchanged: `"gitlab"` in `[features]`.
//!
//! The caller's own token is sent with them, so it must be one that the other gateway accepts: a
//! static key of this gateway must not leave it. Nor must a self-hosted model's address and key,
//! which the other gateway refuses anyway (contract::ai_gateway_server §2.1).

use bytes::Bytes;
use hyper::body::Incoming;

use super::endpoint::not_found;
use super::{Answer, Context};
use crate::auth::Caller;
use crate::error::{GatewayError, Kind};
use crate::provider::{ReceivedRequest, forward_request};
use crate::relay::PassthroughCall;
use crate::route::{Route, RouteQuery};

/// Handles a path of GitLab's API that this version does not implement: passes it to the cloud if
/// `features.default` is `"gitlab"`, else returns 404. Holders of a static key always get the 404.
pub(super) async fn unknown_call(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let route = context.snapshot.table.resolve(RouteQuery::default()).ok();
    match route.filter(|route| route.model.provider.is_gateway()) {
        Some(route) if !matches!(context.caller, Caller::Key(_)) => {
            context.record_route(&route);
            let bytes = context.body(incoming).await?;
            context.forward(&route, false, &bytes).await
        }
        _ => Err(not_found(context.parts.uri.path())),
    }
}

impl Context<'_> {
    /// Passes the request on along this route, and the response back, byte for byte. Fails with 403
    /// for callers whose credentials are this gateway's own, and with 422 for a request that has a
    /// self-hosted model's metadata.
    pub(super) async fn forward(
        &mut self,
        route: &Route,
        has_metadata: bool,
        body: &Bytes,
    ) -> Answer {
        match self.caller {
            Caller::Anonymous | Caller::Gitlab(_) => {}
            Caller::Key(_) => {
                return Err(GatewayError::new(
                    Kind::Forbidden,
                    "This feature is GitLab's AI vendor model, which accepts GitLab's own tokens only, not a static key of \
                     this gateway",
                ));
            }
            Caller::User(_) => {
                return Err(GatewayError::new(
                    Kind::Forbidden,
                    "This feature is GitLab's AI vendor model, which accepts no token of this gateway: turn direct \
                     connections off in GitLab",
                ));
            }
        }
        if has_metadata {
            return Err(GatewayError::new(
                Kind::EndpointRefused,
                "The request names a self-hosted model, but this gateway sends the feature to GitLab's cloud \
                 (\"gitlab\" in [features]), where the model's address and key must not go: choose the GitLab AI vendor \
                 model in GitLab too, or name a model in [features]",
            ));
        }
        let (method, headers) = (&self.parts.method, &self.parts.headers);
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let outbound = forward_request(&ReceivedRequest { method, target, headers, body });
        self.relay
            .forward(
                self.call(route),
                PassthroughCall { outbound, stream: false, hide_usage: false },
                self.facts,
            )
            .await
    }
}
