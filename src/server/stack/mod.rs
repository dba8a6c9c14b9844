//! The tower stack of one connection, outermost first. Three layers; each states why it is where it
//! is. What a layer needs comes as an argument or inside `Exchange`, never through request
//! extensions.

mod admit;
mod answer;
mod exchange;
mod observe;

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tower::Service;
use tower::ServiceBuilder;

pub(super) use self::admit::Admission;
use self::admit::Admit;
use self::answer::Answer;
use self::observe::Observe;
use crate::api::Api;
use crate::relay::{DrainDeadline, RelayBody};
use crate::telemetry::Sink;

/// Builds the stack of a connection from `client`.
pub(super) fn stack(
    api: Arc<Api>,
    sink: Arc<dyn Sink>,
    admission: Arc<Admission>,
    client: IpAddr,
    deadline: DrainDeadline,
) -> impl Service<
    Request<Incoming>,
    Response = Response<RelayBody>,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone {
    let queue_deadline = deadline.clone();
    ServiceBuilder::new()
        // Outermost, so that whatever happens below is one record and one response.
        .layer_fn(move |inner| Observe::new(inner, Arc::clone(&sink), client))
        // Before the body is read: a request that waits or is shed must cost no memory.
        .layer_fn(move |inner| Admit::new(inner, Arc::clone(&admission), queue_deadline.clone()))
        // Innermost: endpoint, credentials, route, relay; a panic there becomes a response.
        .service(Answer::new(api, deadline))
}
