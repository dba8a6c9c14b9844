//! The tower stack of one connection, outermost first. Three layers; each says why it sits where it
//! does. What a layer needs comes as an argument or inside [`Exchange`], never through request
//! extensions.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tower::Service;
use tower::ServiceBuilder;

use super::admit::{Admission, Admit};
use super::answer::Answer;
use super::observe::Observe;
use crate::api::{Api, Matched};
use crate::error::GatewayError;
use crate::relay::{Ending, RelayBody};
use crate::telemetry::{Record, Sink};

/// A request on its way in, with its record.
pub(super) struct Exchange {
    pub(super) request: Request<Incoming>,
    pub(super) matched: Matched,
    pub(super) record: Record,
    /// Its place among the requests in flight; probes need none.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// A request that failed before its head was sent, on its way out.
pub(super) struct Failed {
    pub(super) error: GatewayError,
    pub(super) record: Record,
}

/// What a layer below [`Observe`] returns.
pub(super) type Outcome = Result<Response<RelayBody>, Failed>;

/// The stack for a connection from `client`.
pub(super) fn stack(
    api: Arc<Api>,
    sink: Arc<dyn Sink>,
    admission: Arc<Admission>,
    client: IpAddr,
    ending: Ending,
) -> impl Service<
    Request<Incoming>,
    Response = Response<RelayBody>,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone {
    let ends = ending.clone();
    ServiceBuilder::new()
        // Outermost, so that whatever happens below is one record and one answer.
        .layer_fn(move |inner| Observe::new(inner, Arc::clone(&sink), client))
        // Before the body is read: a request that waits or is shed must cost no memory.
        .layer_fn(move |inner| Admit::new(inner, Arc::clone(&admission), ends.clone()))
        // Innermost: endpoint, credentials, route, relay; a panic there becomes an answer.
        .service(Answer::new(api, ending))
}
