//! What the layers of the stack pass to each other: a request with its record on the way in, a
//! response or an error with that record on the way out.

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::Matched;
use crate::error::GatewayError;
use crate::relay::RelayBody;
use crate::telemetry::Record;

/// A request on its way in, with its record.
pub(super) struct Exchange {
    pub(super) request: Request<Incoming>,
    pub(super) matched: Matched,
    pub(super) record: Record,
    /// The permit of `limits.in_flight`; `None` for probes, which need none.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// A request that failed before its response head was sent, on its way out.
pub(super) struct Failed {
    pub(super) error: GatewayError,
    pub(super) record: Record,
}

/// The result of a layer below `Observe`.
pub(super) type Outcome = Result<Response<RelayBody>, Failed>;
