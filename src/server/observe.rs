//! Opens the record, and turns what failed into an answer. Every response leaves through here, so
//! every one carries its `X-Request-ID`.

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

use super::stack::{Exchange, Failed, Outcome};
use crate::api::{Matched, allow_any_origin, is_cross_origin};
use crate::error::{Kind, render};
use crate::relay::{Content, HeadStart, Promise, RelayBody};
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
    type Future = Answering<S::Future>;

    /// Always ready: waiting is `Admit`'s, under its own limit.
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
        let early = matched.head_start.clone().map(|head_start| Early {
            head_start,
            request_id: record.facts.ids.request_id().clone(),
            patience: None,
        });
        let inner = Some(self.inner.call(Exchange { request, matched, record, place: None }));
        Answering { inner, early, cross_origin }
    }
}

/// The answer on its way. Once its head is promised, it goes out when the silence gets too long.
pub(super) struct Answering<F> {
    inner: Option<F>,
    early: Option<Early>,
    /// A page must be able to read the answer, a refusal too.
    cross_origin: bool,
}

/// What a head is made of before there is an answer.
struct Early {
    head_start: HeadStart,
    request_id: HeaderValue,
    /// Runs from the promise on.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Early {
    /// Ready when the head is to go out.
    fn poll_head(&mut self, promise: Promise, cx: &mut Context<'_>) -> Poll<Response<()>> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(promise.every)));
        ready!(patience.as_mut().poll(cx));
        let mut head = Response::new(());
        head.headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(promise.content_type));
        head.headers_mut().insert(X_REQUEST_ID, self.request_id.clone());
        Poll::Ready(head)
    }
}

impl<F: Future<Output = Outcome> + Unpin + Send + 'static> Answering<F> {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Response<RelayBody>> {
        let Self { inner, early, .. } = self;
        let Some(future) = inner else { return Poll::Pending };
        let polled = Pin::new(future).poll(cx).map(|outcome| outcome.unwrap_or_else(rescue));
        let promised = early.as_mut().and_then(|early| Some((early.head_start.promised()?, early)));
        let Some((promise, early)) = promised else { return polled };
        if let Poll::Ready(response) = polled {
            return Poll::Ready(response.map(|body| body.beating(promise)));
        }
        let head = ready!(early.poll_head(promise, cx));
        let Some(future) = inner.take() else { return Poll::Pending };
        let making = async { future.await.unwrap_or_else(rescue).into_body() };
        Poll::Ready(head.map(|()| RelayBody::making(making, promise)))
    }
}

impl<F: Future<Output = Outcome> + Unpin + Send + 'static> Future for Answering<F> {
    type Output = Result<Response<RelayBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.poll_answer(cx));
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
