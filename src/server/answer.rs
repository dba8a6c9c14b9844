//! The innermost service: the API itself. A panic below is contained here: one request fails, with
//! an answer and a line in the log, and the worker goes on.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use tower::Service;

use super::stack::{Exchange, Failed, Outcome};
use crate::api::Api;
use crate::error::{GatewayError, Kind};
use crate::relay::{Ending, RelayBody};
use crate::telemetry::X_REQUEST_ID;

/// The service.
#[derive(Clone)]
pub(super) struct Answer {
    api: Arc<Api>,
    ending: Ending,
}

impl Answer {
    pub(super) const fn new(api: Arc<Api>, ending: Ending) -> Self {
        Self { api, ending }
    }
}

impl Service<Exchange> for Answer {
    type Response = Response<RelayBody>;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Outcome> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let (api, ending) = (Arc::clone(&self.api), self.ending.clone());
        Box::pin(async move {
            let Exchange { request, matched, mut record, place } = exchange;
            let answered = ending
                .bounds(contained(pin!(api.answer(matched, request, &mut record.facts))))
                .await;
            match answered {
                Err(error) => Err(Failed { error, record }),
                Ok(mut response) => {
                    record.facts.status = response.status().as_u16();
                    response
                        .headers_mut()
                        .insert(X_REQUEST_ID, record.facts.ids.request_id().clone());
                    Ok(response.map(|content| RelayBody::new(content.until(ending), record, place)))
                }
            }
        })
    }
}

/// Runs a future; a panic becomes an error. The message went to standard error by the panic hook;
/// it is not repeated to the client.
async fn contained<T>(
    mut future: Pin<&mut impl Future<Output = Result<T, GatewayError>>>,
) -> Result<T, GatewayError> {
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            Poll::Ready(Err(GatewayError::new(Kind::Internal, "Internal error")
                .internal("a panic, see standard error")))
        })
    })
    .await
}
