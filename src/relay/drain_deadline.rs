//! The deadline of a drain, `resilience.drain`: an answer that is still running then fails, in the
//! error format of its surface.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::coop::unconstrained;

use crate::error::{GatewayError, Kind};

/// A signal that the drain deadline has passed; one per worker, cloned for each answer.
#[derive(Clone, Debug)]
pub struct DrainDeadline(watch::Receiver<bool>);

impl DrainDeadline {
    /// Creates the signal and its sender; sending `true` expires it.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (reach, reached) = watch::channel(false);
        (reach, Self(reached))
    }

    /// Waits for the deadline, and returns the error for the client.
    pub async fn expired(mut self) -> GatewayError {
        // a task whose model server never pauses has used up its budget, and must still see the
        // signal
        let _ = unconstrained(self.0.wait_for(|reached| *reached)).await;
        GatewayError::new(
            Kind::Draining,
            "Weir is being stopped, and the answer has taken too long to end before",
        )
        .internal("resilience.drain is over")
    }

    /// Runs `making`, and fails at the deadline.
    pub async fn run_until<T>(
        &self,
        making: impl Future<Output = Result<T, GatewayError>>,
    ) -> Result<T, GatewayError> {
        tokio::select! {
            biased;
            made = making => made,
            error = self.clone().expired() => Err(error),
        }
    }
}
