//! A limit of the requests in flight, over all workers; the rest wait in a bounded queue for a
//! bounded time, and are then shed with 503 and `Retry-After`. Probes pass.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::Service;

use super::exchange::{Exchange, Failed, Outcome};
use crate::error::{GatewayError, Kind};
use crate::relay::{DrainDeadline, RelayBody};
use crate::telemetry::labels::Surface;

/// `limits.in_flight`, `limits.queue` and `limits.queue_wait`, with their state.
pub(in crate::server) struct Admission {
    semaphore: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    queue_wait: Duration,
}

impl Admission {
    /// Creates a limit of `in_flight` requests, with a queue of this length and this longest wait.
    pub(in crate::server) fn new(in_flight: usize, queue: usize, queue_wait: Duration) -> Self {
        let semaphore = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        Self { semaphore, waiting: AtomicUsize::new(0), queue, queue_wait }
    }

    /// Waits for a permit. Fails at once when the queue is full, and when the wait times out.
    async fn acquire(self: Arc<Self>) -> Result<OwnedSemaphorePermit, GatewayError> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = WaitingGuard { waiting: &self.waiting };
        if ahead >= self.queue {
            return Err(GatewayError::new(
                Kind::Overloaded,
                "Weir is full (limits.in_flight, limits.queue)",
            ));
        }
        let permit = timeout(self.queue_wait, Arc::clone(&self.semaphore).acquire_owned()).await;
        drop(guard);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(GatewayError::new(
                Kind::Overloaded,
                "Weir is full: no request finished within limits.queue_wait",
            )),
        }
    }
}

/// Removes a request from the count of those waiting, also when its client disconnects meanwhile.
struct WaitingGuard<'a> {
    waiting: &'a AtomicUsize,
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The layer's service.
#[derive(Clone)]
pub(super) struct Admit<S> {
    inner: S,
    admission: Arc<Admission>,
    deadline: DrainDeadline,
}

impl<S> Admit<S> {
    pub(super) const fn new(inner: S, admission: Arc<Admission>, deadline: DrainDeadline) -> Self {
        Self { inner, admission, deadline }
    }
}

impl<S> Service<Exchange> for Admit<S>
where
    S: Service<Exchange, Response = Response<RelayBody>, Error = Failed, Future: Unpin + Send>
        + Clone
        + Send
        + 'static,
{
    type Response = Response<RelayBody>;
    type Error = Failed;
    type Future = AdmitFuture<S::Future>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        if exchange.matched.surface == Surface::Monitoring {
            return AdmitFuture::Immediate(self.inner.call(exchange));
        }
        if let Ok(permit) = Arc::clone(&self.admission.semaphore).try_acquire_owned() {
            exchange.permit = Some(permit);
            return AdmitFuture::Immediate(self.inner.call(exchange));
        }
        let (mut inner, admission, deadline) =
            (self.inner.clone(), Arc::clone(&self.admission), self.deadline.clone());
        AdmitFuture::Queued(Box::pin(async move {
            exchange.record.facts.queue.begin();
            let acquired = deadline.run_until(admission.acquire()).await;
            exchange.record.facts.queue.end();
            match acquired {
                Ok(permit) => {
                    exchange.permit = Some(permit);
                    inner.call(exchange).await
                }
                Err(error) => Err(Failed { error, record: exchange.record }),
            }
        }))
    }
}

/// The future of [`Admit`].
pub(super) enum AdmitFuture<F> {
    /// There was a free permit, or none is needed.
    Immediate(F),
    /// The request waits for a permit first.
    Queued(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

impl<F: Future<Output = Outcome> + Unpin> Future for AdmitFuture<F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut *self {
            Self::Immediate(future) => Pin::new(future).poll(cx),
            Self::Queued(future) => future.as_mut().poll(cx),
        }
    }
}
