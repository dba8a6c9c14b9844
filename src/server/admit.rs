//! How many requests are answered at once, over all workers; the rest wait in a bounded queue for a
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

use super::stack::{Exchange, Failed, Outcome};
use crate::error::{GatewayError, Kind};
use crate::relay::{Ending, RelayBody};
use crate::telemetry::labels::Surface;

/// `limits.in_flight`, `limits.queue`, `limits.queue_wait`.
pub(super) struct Admission {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    wait: Duration,
}

impl Admission {
    pub(super) fn new(in_flight: usize, queue: usize, wait: Duration) -> Self {
        let places = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        Self { places, waiting: AtomicUsize::new(0), queue, wait }
    }

    async fn wait(self: Arc<Self>) -> Result<OwnedSemaphorePermit, GatewayError> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let leave = Leave(&self.waiting);
        if ahead >= self.queue {
            return Err(GatewayError::new(
                Kind::Overloaded,
                "Weir is full (limits.in_flight, limits.queue)",
            ));
        }
        let place = timeout(self.wait, Arc::clone(&self.places).acquire_owned()).await;
        drop(leave);
        match place {
            Ok(Ok(place)) => Ok(place),
            _ => Err(GatewayError::new(
                Kind::Overloaded,
                "Weir is full: no place within limits.queue_wait",
            )),
        }
    }
}

/// Counts a waiting request out, also when its client leaves meanwhile.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The layer's service.
#[derive(Clone)]
pub(super) struct Admit<S> {
    inner: S,
    admission: Arc<Admission>,
    ending: Ending,
}

impl<S> Admit<S> {
    pub(super) const fn new(inner: S, admission: Arc<Admission>, ending: Ending) -> Self {
        Self { inner, admission, ending }
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
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        if exchange.matched.surface == Surface::Monitoring {
            return Admitted::Now(self.inner.call(exchange));
        }
        if let Ok(place) = Arc::clone(&self.admission.places).try_acquire_owned() {
            exchange.place = Some(place);
            return Admitted::Now(self.inner.call(exchange));
        }
        let (mut inner, admission, ending) =
            (self.inner.clone(), Arc::clone(&self.admission), self.ending.clone());
        Admitted::Later(Box::pin(async move {
            exchange.record.facts.queue.begin();
            let place = ending.bounds(admission.wait()).await;
            exchange.record.facts.queue.end();
            match place {
                Ok(place) => {
                    exchange.place = Some(place);
                    inner.call(exchange).await
                }
                Err(error) => Err(Failed { error, record: exchange.record }),
            }
        }))
    }
}

/// Answered at once, or after a wait.
pub(super) enum Admitted<F> {
    Now(F),
    Later(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

impl<F: Future<Output = Outcome> + Unpin> Future for Admitted<F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut *self {
            Self::Now(future) => Pin::new(future).poll(cx),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}
