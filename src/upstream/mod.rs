//! The only module that connects outward: endpoints and their live state, connections and the pool
//! of idle ones, and the sending of one request within its limits.
//!
//! | file or folder | what it holds |
//! |---|---|
//! | `endpoint`, `registry` | one replica and its live state; the replicas of all models, kept across reloads |
//! | `balance/` | which replica gets the request: the choice, and its inputs (requests in flight, peak EWMA of the first-token wait, reported load, prompt affinity) |
//! | `health/` | whether a replica may be chosen: the circuit breaker, the health checks |
//! | `limit/` | how many requests a model gets: the concurrency limit with its queue, the retry budget, the hedging budget |
//! | `net/` | how a server is reached: egress settings, name resolution and TCP, an outbound proxy, TLS and certificates |
//! | `http/` | one HTTP/1.1 exchange: the connection, the pool of idle ones, the response's body, the timers |
//! | `send` | one request of a client to one replica, through all of the above |
//! | `fetch`, `redis` | connections apart from the data path: small documents, shared rate limits |

mod balance;
mod endpoint;
mod fetch;
mod health;
mod http;
mod limit;
mod net;
mod redis;
mod registry;
mod send;

pub use self::http::answer_body::AnswerBody;
pub use self::http::connection::ExchangeError;
pub use self::http::timers::{Expired, Timers};
pub use self::redis::{Redis, RedisUrl};
pub use balance::attempted::{AttemptedSet, SharedAttemptedSet};
pub use endpoint::{Endpoint, EndpointStatus, InFlightGuard, Observation};
pub use fetch::{FetchError, FetchRequest, FetchResponse, FetchResult, Fetcher};
pub use health::breaker::BreakerSettings;
pub use health::checker::{HealthCheckSettings, HealthChecker, HealthChecks};
pub use limit::concurrency::Permit;
pub use limit::hedge_budget::Hedging;
pub use net::certificate::{PairError, Validity, certificates, certified};
pub use net::connect::{ConnectError, ConnectTimings};
pub use net::egress::{Egress, EgressSettings, SharedEgress};
pub use net::proxy::{NoProxyRule, Proxies, Proxy, TunnelError};
pub use net::stream::Stream;
pub use net::tls::{ClientIdentity, ClientTls, TlsError};
pub use registry::{Endpoints, Registry};
pub use send::{ChosenReplica, HOP_BY_HOP, Inbound, Sending, Upstreams};

/// The keys of `[resilience]` that concern model servers; a reload may change all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resilience {
    /// `retry_budget`: extra requests to a model's replicas, as a share of requests.
    pub retry_share: f64,
    /// `[resilience.hedging]`; `None` turns hedging off.
    pub hedging: Option<Hedging>,
    /// When a replica's circuit breaker opens.
    pub breaker: BreakerSettings,
    /// How often a replica's health is checked.
    pub health_check: HealthCheckSettings,
}

impl Default for Resilience {
    fn default() -> Self {
        let (breaker, health_check) = (BreakerSettings::default(), HealthCheckSettings::default());
        Self { retry_share: 0.2, hedging: None, breaker, health_check }
    }
}
