//! A Redis or Valkey that several gateways share: one script, asked within a bounded time, and
//! known to be there or not. The connection is made beside the requests and never waited for by
//! one; while it is away nobody asks.

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
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest that connecting may take; beside the requests.
const CONNECT: Duration = Duration::from_secs(2);

/// `limits.shared`, checked: `redis://`, `rediss://` (TLS), with user, password and database if it
/// has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl(Secret<String>);

impl RedisUrl {
    /// Reads a URL. The reason does not repeat it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !["redis://", "rediss://", "valkey://", "valkeys://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            return Err("expected a URL like \"redis://host:6379\"");
        }
        if text.contains('#') {
            // the crate reads `#insecure` there
            return Err("a Redis URL has no fragment: a server's certificate is always verified");
        }
        match text.into_connection_info() {
            Ok(_) => Ok(Self(Secret::new(text.to_owned()))),
            Err(_) => Err("not a Redis URL: redis[s]://[user:password@]host[:port][/database]"),
        }
    }
}

/// One Redis.
pub struct Redis {
    url: RedisUrl,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// Whether it answered last; nothing before the first time.
    was_up: Mutex<Option<bool>>,
    /// 1 while it answers.
    gauge: IntGauge,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Redis {
    /// Not connected yet: [`Self::tend`] does that.
    pub fn new(url: RedisUrl, gauge: IntGauge) -> Self {
        gauge.set(0);
        Self { url, connection: ArcSwapOption::empty(), was_up: Mutex::default(), gauge }
    }

    /// Whether this is the Redis of that URL.
    pub fn is_of(&self, url: &RedisUrl) -> bool {
        self.url == *url
    }

    /// Whether it is worth asking.
    pub fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// What a script answers to one key and these arguments. `None` when it is away; it is held to
    /// be away, too, when it is slow.
    pub async fn eval(&self, script: &str, key: &str, arguments: &[u64]) -> Option<(u64, u64)> {
        let mut connection = self.connection.load_full()?.as_ref().clone();
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(key).arg(arguments);
        let why = match timeout(PATIENCE, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => told(&error),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        self.connection.store(None);
        self.note(Err(why));
        None
    }

    /// Connects again if it is away. To be called now and then, beside the requests.
    pub async fn tend(&self) {
        if self.connection.load().is_some() {
            return;
        }
        let connected = match timeout(CONNECT, self.connect()).await {
            Ok(connected) => connected.map_err(|error| told(&error)),
            Err(_) => Err(format!("no connection within {CONNECT:?}")),
        };
        self.note(connected.map(|connection| self.connection.store(Some(Arc::new(connection)))));
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let client = Client::open(self.url.0.expose().as_str())?;
        client.get_multiplexed_async_connection_with_config(&limits).await
    }

    /// The gauge follows; the log has a line for each change.
    fn note(&self, reached: Result<(), String>) {
        let is_up = reached.is_ok();
        let was_up = self.was_up.lock().unwrap_or_else(PoisonError::into_inner).replace(is_up);
        if was_up == Some(is_up) {
            return;
        }
        self.gauge.set(is_up.into());
        match reached {
            Ok(()) => tracing::info!(
                "limits.shared: Redis answers, rates count for all gateways together"
            ),
            Err(why) => {
                tracing::warn!(%why, "limits.shared: Redis is away, each gateway counts for itself")
            }
        }
    }
}

/// What went wrong, without what a server says: that may repeat a password.
fn told(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::RedisUrl;

    #[test]
    fn urls_are_read_and_never_shown() {
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
