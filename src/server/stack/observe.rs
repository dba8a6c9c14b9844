//! Opens the record, and renders errors as responses. Every response leaves through here, so every
//! one carries its `X-Request-ID`.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};
use tower::Service;

use super::exchange::{Exchange, Failed, Outcome};
use crate::api::{Matched, allow_any_origin, is_cross_origin};
use crate::error::{Kind, render};
use crate::relay::{Content, EarlyResponse, EarlyResponseSlot, RelayBody};
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
    S: Service<
            Exchange,
            Response = Response<RelayBody>,
            Error = Failed,
            Future: Unpin + Send + 'static,
        >,
{
    type Response = Response<RelayBody>;
    type Error = Infallible;
    type Future = ObserveFuture<S::Future>;

    /// Always ready: requests wait in `Admit`, under its own limit.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let matched = Matched::of(request.method(), request.uri().path());
        let ids = TraceIds::of(request.headers());
        let mut record =
            Record::open(Arc::clone(&self.sink), matched.surface, ids, Some(self.client));
        record.facts.shape = matched.shape();
        if matched.surface == Surface::Unknown {
            record.facts.path =
                Some(request.uri().path().chars().take(256).collect::<String>().into());
        }
        let cross_origin = is_cross_origin(request.headers());
        let early = matched.early_response.clone().map(|slot| EarlyHead {
            slot,
            request_id: record.facts.ids.request_id().clone(),
            delay: None,
        });
        let inner = Some(self.inner.call(Exchange { request, matched, record, permit: None }));
        ObserveFuture { inner, early, cross_origin }
    }
}

/// The future of [`Observe`]. Once the API has allowed an early response, its head is sent when
/// nothing else has been for too long.
pub(super) struct ObserveFuture<F> {
    inner: Option<F>,
    early: Option<EarlyHead>,
    /// Whether a page of another origin must be able to read the response, also when it is an
    /// error.
    cross_origin: bool,
}

/// What the head of an early response is built from.
struct EarlyHead {
    slot: EarlyResponseSlot,
    request_id: HeaderValue,
    /// Runs since the early response was allowed.
    delay: Option<Pin<Box<Sleep>>>,
}

impl EarlyHead {
    /// Returns the head when it is time to send it.
    fn poll_head(&mut self, terms: EarlyResponse, cx: &mut Context<'_>) -> Poll<Response<()>> {
        let delay = self.delay.get_or_insert_with(|| Box::pin(sleep(terms.interval)));
        ready!(delay.as_mut().poll(cx));
        let mut head = Response::new(());
        head.headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(terms.content_type));
        head.headers_mut().insert(X_REQUEST_ID, self.request_id.clone());
        Poll::Ready(head)
    }
}

impl<F: Future<Output = Outcome> + Unpin + Send + 'static> ObserveFuture<F> {
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Response<RelayBody>> {
        let Self { inner, early, .. } = self;
        let Some(future) = inner else { return Poll::Pending };
        let polled =
            Pin::new(future).poll(cx).map(|outcome| outcome.unwrap_or_else(error_response));
        let allowed = early.as_mut().and_then(|early| Some((early.slot.get()?, early)));
        let Some((terms, early)) = allowed else { return polled };
        if let Poll::Ready(response) = polled {
            return Poll::Ready(response.map(|body| body.with_heartbeat(terms)));
        }
        let head = ready!(early.poll_head(terms, cx));
        let Some(future) = inner.take() else { return Poll::Pending };
        let body = async { future.await.unwrap_or_else(error_response).into_body() };
        Poll::Ready(head.map(|()| RelayBody::pending(body, terms)))
    }
}

impl<F: Future<Output = Outcome> + Unpin + Send + 'static> Future for ObserveFuture<F> {
    type Output = Result<Response<RelayBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.poll_response(cx));
        if self.cross_origin {
            allow_any_origin(response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

/// Renders an error as a response, and writes what it is into the record.
fn error_response(failed: Failed) -> Response<RelayBody> {
    let Failed { error, mut record } = failed;
    let facts = &mut record.facts;
    let (parts, body) = render(&error, facts.shape, facts.ids.request_id_str()).into_parts();
    facts.failure = Some(error.kind());
    facts.note = error.operator().map(str::to_owned);
    facts.status = parts.status.as_u16();
    if error.kind() == Kind::Internal {
        tracing::error!(
            request_id = facts.ids.request_id_str(),
            note = facts.note,
            "{}",
            error.public()
        );
    }
    let request_id = facts.ids.request_id().clone();
    let mut response =
        Response::from_parts(parts, RelayBody::new(Content::Whole(body), record, None));
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    response
}
