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

mod affinity;
mod balance;
mod breaker;
mod certificate;
mod connect;
mod endpoint;
mod exchange;
mod fetch;
mod hedge;
mod inflight;
mod load;
mod outward;
mod places;
mod pool;
mod proxy;
mod redis;
mod retry;
mod send;
mod stamped;
mod stream;
mod timers;
mod tls;
mod wait;
mod watch;

pub use self::redis::{Redis, RedisUrl};
pub use balance::{Tried, TriedTogether};
pub use breaker::BreakerSettings;
pub use certificate::{PairError, Validity, certificates, certified};
pub use connect::{ConnectError, Steps};
pub use endpoint::{Condition, Endpoint, Endpoints, Entered, Registry, Seen};
pub use exchange::{AnswerBody, ExchangeError};
pub use fetch::{Answered, Asked, FetchError, Fetched, Fetcher};
pub use hedge::Hedging;
pub use outward::{Outward, OutwardSettings, SharedOutward};
pub use places::{Place, Places};
pub use proxy::{Except, Proxies, Proxy, TunnelError};
pub use send::{HOP_BY_HOP, Inbound, Sending, Upstreams};
pub use stream::Stream;
pub use timers::{Expired, Timers};
pub use tls::{ClientIdentity, ClientTls, TlsError};
pub use watch::{Watch, WatchSettings, Watcher};

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
