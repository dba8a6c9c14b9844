//! The only module that connects outward: endpoints and their live state, connections, the pool of kept
//! ones, and the sending of one request within its limits.

mod balance;
mod connect;
mod endpoint;
mod exchange;
mod fetch;
mod places;
mod pool;
mod redis;
mod send;
mod stream;
mod timers;
mod tls;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

pub use self::redis::{Redis, RedisUrl};
pub use connect::{ConnectError, Steps};
pub use endpoint::{Endpoint, Endpoints, Entered, Registry, Seen};
pub use exchange::{AnswerBody, ExchangeError};
pub use fetch::{Answered, Asked, FetchError, Fetched, Fetcher};
pub use places::{Place, Places};
pub use send::{HOP_BY_HOP, Inbound, Sending, Upstreams};
pub use stream::Stream;
pub use timers::{Expired, Timers};
pub use tls::{TlsError, tls_config};

/// What the file and the environment say about connecting outward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an unused connection is kept. Below uvicorn's (vLLM's) 5 s, so that we close first
    /// (providers.md d3.5).
    pub keep_idle: Duration,
    /// Unused connections kept per endpoint and worker.
    pub max_idle: usize,
    /// Certificate authorities besides the system's: `[tls] extra_ca`, `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`.
    pub extra_ca: Vec<PathBuf>,
    /// Whether a model that a *request* names may be on a loopback address.
    pub request_loopback: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep_idle: Duration::from_secs(4), max_idle: 256, extra_ca: Vec::new(), request_loopback: false }
    }
}
