//! The only module that connects outward: endpoints and their live state, connections, the pool of
//! kept ones, and the sending of one request within its limits.
//!
//! | | |
//! |---|---|
//! | which replica is asked | `balance`, and what it goes by: `inflight`, `wait`, `load`, `affinity` |
//! | whether it may be | `breaker`, `watch` (health); for the model as a whole `places`, `retry`, `hedge` |
//! | where that is kept | `endpoint`, in words of `stamped` |
//! | how it is reached | `outward` says; `connect`, `proxy`, `tls`, `certificate`, `stream`, `pool` |
//! | what passes | `send`, `exchange`, `timers`; beside the requests `fetch`, `redis` |

mod balance;
mod endpoint;
mod fetch;
mod health;
mod http;
mod limit;
mod net;
mod redis;
mod send;

pub use self::http::connection::{AnswerBody, ExchangeError};
pub use self::http::timers::{Expired, Timers};
pub use self::redis::{Redis, RedisUrl};
pub use balance::attempted::{Tried, TriedTogether};
pub use endpoint::{Condition, Endpoint, Endpoints, Entered, Registry, Seen};
pub use fetch::{Answered, Asked, FetchError, Fetched, Fetcher};
pub use health::breaker::BreakerSettings;
pub use health::checker::{Watch, WatchSettings, Watcher};
pub use limit::concurrency::{Place, Places};
pub use limit::hedge_budget::Hedging;
pub use net::certificate::{PairError, Validity, certificates, certified};
pub use net::connect::{ConnectError, Steps};
pub use net::egress::{Outward, OutwardSettings, SharedOutward};
pub use net::proxy::{Except, Proxies, Proxy, TunnelError};
pub use net::stream::Stream;
pub use net::tls::{ClientIdentity, ClientTls, TlsError};
pub use send::{HOP_BY_HOP, Inbound, Sending, Upstreams};

/// `[resilience]`, as far as it is about model servers; a reload may change all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resilience {
    /// `retry_budget`: extra requests to a model's replicas, as a share of requests.
    pub retry_share: f64,
    /// `[resilience.hedging]`; none: off.
    pub hedging: Option<Hedging>,
    /// When a replica is passed over.
    pub breaker: BreakerSettings,
    /// How often it is asked whether it is well.
    pub health_check: WatchSettings,
}

impl Default for Resilience {
    fn default() -> Self {
        let (breaker, health_check) = (BreakerSettings::default(), WatchSettings::default());
        Self { retry_share: 0.2, hedging: None, breaker, health_check }
    }
}
