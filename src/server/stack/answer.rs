//! The innermost service: the API itself. A panic below is contained here: one request fails, with
//! a response and a line in the log, and the worker goes on.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use tower::Service;

use super::exchange::{Exchange, Failed, Outcome};
use crate::api::Api;
use crate::error::{GatewayError, Kind};
use crate::relay::{Content, DrainDeadline, RelayBody};
use crate::telemetry::X_REQUEST_ID;

/// The service.
#[derive(Clone)]
pub(super) struct Answer {
    api: Arc<Api>,
    deadline: DrainDeadline,
}

impl Answer {
    pub(super) const fn new(api: Arc<Api>, deadline: DrainDeadline) -> Self {
        Self { api, deadline }
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
        let (api, deadline) = (Arc::clone(&self.api), self.deadline.clone());
        Box::pin(async move {
            let Exchange { request, matched, mut record, permit } = exchange;
            let answered = {
                let answer = pin!(api.answer(matched, request, &mut record.facts));
                deadline.run_until(catch_panic(answer)).await
            };
            match answered {
                Err(error) => Err(Failed { error, record }),
                Ok(mut response) => {
                    record.facts.status = response.status().as_u16();
                    response
                        .headers_mut()
                        .insert(X_REQUEST_ID, record.facts.ids.request_id().clone());
                    let body = |content: Content| {
                        RelayBody::new(content.with_drain_deadline(deadline), record, permit)
                    };
                    Ok(response.map(body))
                }
            }
        })
    }
}

/// Runs a future; a panic becomes an error. The panic hook has written the message to standard
/// error; it is not repeated to the client.
async fn catch_panic<T>(
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
