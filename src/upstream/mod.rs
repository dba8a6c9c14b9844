//! The only module that connects outward: endpoints and their live state, connections, the pool of kept
//! ones, and the sending of one request within its limits.

mod balance;
mod certificate;
mod connect;
mod endpoint;
mod exchange;
mod fetch;
mod outward;
mod places;
mod pool;
mod proxy;
mod send;
mod stream;
mod timers;
mod tls;
mod wait;

pub use certificate::{PairError, Validity, certificates, certified};
pub use connect::{ConnectError, Steps};
pub use endpoint::{Endpoint, Endpoints, Entered, Registry, Seen};
pub use exchange::{AnswerBody, ExchangeError};
pub use fetch::{Answered, Asked, FetchError, Fetched, Fetcher};
pub use outward::{Outward, OutwardSettings, SharedOutward};
pub use places::{Place, Places};
pub use proxy::{Except, Proxies, Proxy, TunnelError};
pub use send::{HOP_BY_HOP, Inbound, Sending, Upstreams};
pub use stream::Stream;
pub use timers::{Expired, Timers};
pub use tls::{ClientIdentity, ClientTls, TlsError};
