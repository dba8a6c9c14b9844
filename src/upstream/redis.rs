//! A Redis or Valkey that several gateways share: one script, evaluated within a bounded time, and
//! a state that is up or down. The connection is made apart from the requests and no request waits
//! for it; while Redis is down no request uses it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus::IntGauge;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _, RedisError};
use tokio::time::timeout;

use crate::secret::Secret;

/// The longest that a request waits for a count.
const EVAL_TIMEOUT: Duration = Duration::from_millis(50);
/// The longest that connecting may take, apart from the requests.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// `limits.shared`, checked: `redis://`, `rediss://` (TLS), with optional user, password and
/// database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl(Secret<String>);

impl RedisUrl {
    /// Parses a URL. The error does not repeat it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !["redis://", "rediss://", "valkey://", "valkeys://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            return Err("expected a URL like \"redis://host:6379\"");
        }
        if text.contains('#') {
            // the crate would parse `#insecure` there
            return Err("a Redis URL has no fragment: a server's certificate is always verified");
        }
        match text.into_connection_info() {
            Ok(_) => Ok(Self(Secret::new(text.to_owned()))),
            Err(_) => Err("not a Redis URL: redis[s]://[user:password@]host[:port][/database]"),
        }
    }
}

/// The client of one Redis.
pub struct Redis {
    url: RedisUrl,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// Whether it was up at the last attempt; `None` before the first.
    was_up: Mutex<Option<bool>>,
    /// 1 while it is up, else 0.
    gauge: IntGauge,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Redis {
    /// Creates a client that is not connected yet.
    pub fn new(url: RedisUrl, gauge: IntGauge) -> Self {
        gauge.set(0);
        Self { url, connection: ArcSwapOption::empty(), was_up: Mutex::default(), gauge }
    }

    /// Returns whether this is the client of that URL.
    pub fn is_for(&self, url: &RedisUrl) -> bool {
        self.url == *url
    }

    /// Returns whether it is connected.
    pub fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Evaluates a script with one key and these arguments. Returns `None` when Redis is down; a
    /// slow or failed reply counts as down, too.
    pub async fn eval(&self, script: &str, key: &str, arguments: &[u64]) -> Option<(u64, u64)> {
        let mut connection = self.connection.load_full()?.as_ref().clone();
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(key).arg(arguments);
        let why = match timeout(EVAL_TIMEOUT, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => describe(&error),
            Err(_) => format!("no answer within {EVAL_TIMEOUT:?}"),
        };
        self.connection.store(None);
        self.record(Err(why));
        None
    }

    /// Connects again if it is down. To be called periodically, apart from the requests.
    pub async fn reconnect(&self) {
        if self.connection.load().is_some() {
            return;
        }
        let connected = match timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(connected) => connected.map_err(|error| describe(&error)),
            Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
        };
        self.record(connected.map(|connection| self.connection.store(Some(Arc::new(connection)))));
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let client = Client::open(self.url.0.expose().as_str())?;
        client.get_multiplexed_async_connection_with_config(&limits).await
    }

    /// Sets the gauge, and logs a change.
    fn record(&self, result: Result<(), String>) {
        let is_up = result.is_ok();
        let was_up = self.was_up.lock().unwrap_or_else(PoisonError::into_inner).replace(is_up);
        if was_up == Some(is_up) {
            return;
        }
        self.gauge.set(is_up.into());
        match result {
            Ok(()) => tracing::info!(
                "limits.shared: Redis is up, rates are counted for all gateways together"
            ),
            Err(why) => {
                tracing::warn!(%why, "limits.shared: Redis is down, each gateway counts its own rates")
            }
        }
    }
}

/// Describes an error without the server's own text, which may repeat a password.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::RedisUrl;

    #[test]
    fn urls_are_parsed_and_never_printed() {
        for good in [
            "redis://h",
            "redis://h:6380/3",
            "rediss://:canary@h:6379",
            "valkey://user:canary@[::1]",
        ] {
            let url = RedisUrl::parse(good).unwrap();
            assert!(!format!("{url:?}").contains("canary"));
        }
        for bad in [
            "h:6379",
            "http://h",
            "redis://",
            "redis://h:port",
            "unix:///run/redis.sock",
            "rediss://h#insecure",
        ] {
            assert!(RedisUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
