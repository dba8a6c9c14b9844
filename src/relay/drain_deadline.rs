//! The end that is set to every answer: a drain does not last for ever. Whoever is still being
//! answered then is told so, in the words that the surface has for a failure.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::coop::unconstrained;

use crate::error::{GatewayError, Kind};

/// Tells when answers may go on no longer; one per worker, each answer has a copy.
#[derive(Clone, Debug)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Not reached yet; it is once `true` is sent.
    pub fn set() -> (watch::Sender<bool>, Self) {
        let (reach, reached) = watch::channel(false);
        (reach, Self(reached))
    }

    /// Waits for it: with what clients are told.
    pub async fn reached(mut self) -> GatewayError {
        // a task whose server never pauses has used up its turn, and must hear of it all the same
        let _ = unconstrained(self.0.wait_for(|reached| *reached)).await;
        GatewayError::new(
            Kind::Draining,
            "Weir is being stopped, and the answer has taken too long to end before",
        )
        .internal("resilience.drain is over")
    }

    /// Runs what makes an answer, until then.
    pub async fn bounds<T>(
        &self,
        making: impl Future<Output = Result<T, GatewayError>>,
    ) -> Result<T, GatewayError> {
        tokio::select! {
            biased;
            made = making => made,
            error = self.clone().reached() => Err(error),
        }
    }
}
