//! Opens the record, and turns what failed into an answer. Every response leaves through here, so every one
//! carries its `X-Request-ID`.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use tower::Service;

use super::stack::{Exchange, Failed, Outcome};
use crate::api::{Matched, allow_any_origin, is_cross_origin};
use crate::error::{Kind, render};
use crate::relay::{Content, RelayBody};
use crate::telemetry::labels::Surface;
use crate::telemetry::{Record, Sink, TraceIds, X_REQUEST_ID};

/// The layer's service.
#[derive(Clone)]
pub(super) struct Observe<S> {
    inner: S,
    sink: Arc<dyn Sink>,
    client: IpAddr,
}

impl<S> Observe<S> {
    pub(super) const fn new(inner: S, sink: Arc<dyn Sink>, client: IpAddr) -> Self {
        Self { inner, sink, client }
    }
}

impl<S> Service<Request<Incoming>> for Observe<S>
where
    S: Service<Exchange, Response = Response<RelayBody>, Error = Failed, Future: Unpin>,
{
    type Response = Response<RelayBody>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    /// Always ready: waiting is `Admit`'s, under its own limit.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let matched = Matched::of(request.method(), request.uri().path());
        let ids = TraceIds::of(request.headers());
        let mut record = Record::open(Arc::clone(&self.sink), matched.surface, ids, Some(self.client));
        record.facts.shape = matched.shape();
        if matched.surface == Surface::Unknown {
            record.facts.path = Some(request.uri().path().chars().take(256).collect::<String>().into());
        }
        let cross_origin = is_cross_origin(request.headers());
        Answering { inner: self.inner.call(Exchange { request, matched, record, place: None }), cross_origin }
    }
}

/// The answer on its way.
pub(super) struct Answering<F> {
    inner: F,
    /// A page must be able to read the answer, a refusal too.
    cross_origin: bool,
}

impl<F: Future<Output = Outcome> + Unpin> Future for Answering<F> {
    type Output = Result<Response<RelayBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.inner).poll(cx));
        let mut response = outcome.unwrap_or_else(rescue);
        if self.cross_origin {
            allow_any_origin(response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

/// error → response, and the facts of it into the record.
fn rescue(failed: Failed) -> Response<RelayBody> {
    let Failed { error, mut record } = failed;
    let facts = &mut record.facts;
    let (parts, body) = render(&error, facts.shape, facts.ids.request_id_str()).into_parts();
    facts.failure = Some(error.kind());
    facts.note = error.operator().map(str::to_owned);
    facts.status = parts.status.as_u16();
    if error.kind() == Kind::Internal {
        tracing::error!(request_id = facts.ids.request_id_str(), note = facts.note, "{}", error.public());
    }
    let request_id = facts.ids.request_id().clone();
    let mut response = Response::from_parts(parts, RelayBody::new(Content::Whole(body), record, None));
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    response
}
