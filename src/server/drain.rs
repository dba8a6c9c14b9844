//! How connections end: the stop signal of the workers, the notice that clients get before their
//! connection closes, and how long a client may take over the last bytes of a response.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// How long a connection without a request is kept once Weir stops. Its client may be about to send
/// one: that is answered, with `connection: close` or after a GOAWAY. Closed at once, some clients
/// would send a request in the moment of the close.
pub(super) const DRAIN_NOTICE: Duration = Duration::from_secs(1);
/// Lingering close: how long a client may take over the last bytes of a response that ended in
/// time. What is left is a socket's buffer at most.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// The same for a response whose deadline has expired.
pub(super) const LINGER_EXPIRED: Duration = Duration::from_secs(2);

/// The stop signal of the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Serve.
    #[default]
    No,
    /// Accept and serve, but end each connection with its next response.
    Soon,
    /// Accept nothing more and finish the requests under way.
    Drain,
}

/// Waits until `stop` has reached `level` and [`DRAIN_NOTICE`] has passed since.
pub(super) async fn drain_notice(mut stop: watch::Receiver<Stop>, level: Stop) {
    let _ = stop.wait_for(|stop| *stop >= level).await;
    sleep(DRAIN_NOTICE).await;
}
