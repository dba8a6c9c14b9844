//! Rate limits per caller: requests and tokens per minute, as token buckets that fill evenly.
//!
//! What a response costs is known when it ends, so tokens are charged afterwards: a bucket may go
//! below zero, and the next request waits until the debt is paid. That is why this is not the
//! `governor` crate, whose cells cannot go into debt.
//!
//! With `limits.shared` the buckets are in Redis, where all gateways share them, by the same
//! arithmetic (`bucket.lua`). The local ones stay up to date in addition, for the time when Redis
//! is unreachable.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::{GatewayError, Kind};
use crate::telemetry::labels::{NoLabels, Rate, RateLabels};
use crate::telemetry::{Meter, Metrics};
use crate::upstream::{Redis, RedisUrl};

/// The Redis script with the same bucket arithmetic.
const SCRIPT: &str = include_str!("bucket.lua");
/// The interval at which charges are sent to Redis, and at which a lost connection is retried.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The most callers whose buckets are kept. Beyond it, full buckets are evicted first: a new bucket
/// is full, so nothing is lost.
const MAX_ACCOUNTS: usize = 10_000;

/// The limits of one caller per minute; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// `requests_per_minute`
    pub requests: Option<u32>,
    /// `tokens_per_minute`: input and output.
    pub tokens: Option<u32>,
}

impl RateLimits {
    /// Returns these limits, with those of `base` where a limit is not set.
    #[must_use]
    pub fn or(self, base: Self) -> Self {
        Self { requests: self.requests.or(base.requests), tokens: self.tokens.or(base.tokens) }
    }

    /// Returns whether neither limit is set.
    pub const fn is_unlimited(self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }
}

/// The buckets of all callers, across all workers and reloads; one per process.
#[derive(Debug)]
pub struct RateLimiter {
    accounts: Mutex<HashMap<Arc<str>, Account>>,
    redis: ArcSwapOption<Redis>,
    metrics: Arc<Metrics>,
}

impl RateLimiter {
    /// Creates a limiter without any caller.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { accounts: Mutex::default(), redis: ArcSwapOption::empty(), metrics }
    }

    /// Shares the buckets with other gateways in this Redis, or keeps them local with `None`. Keeps
    /// the connection when the address is the same.
    pub fn set_redis(&self, url: Option<RedisUrl>) {
        let current = self.redis.load();
        match url {
            Some(url) if current.as_ref().is_some_and(|redis| redis.is_for(&url)) => {}
            Some(url) => {
                let up = self.metrics.shared_limits_up.get(&NoLabels {});
                self.redis.store(Some(Arc::new(Redis::new(url, up))));
            }
            None => {
                self.redis.store(None);
                // absent unless there was a Redis
                self.metrics.shared_limits_up.remove(&NoLabels {});
            }
        }
    }

    /// Keeps the connection to Redis and sends charges to it. Does not return; run it once.
    pub async fn run_sync(self: Arc<Self>) {
        let mut tick = interval(SYNC_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(redis) = self.redis.load_full() {
                redis.reconnect().await;
                for (caller, rates, unsynced) in self.take_unsynced() {
                    if self.eval_script(&redis, &caller, rates, false, unsynced).await.is_none() {
                        break;
                    }
                }
            }
        }
    }

    /// Admits a request of this caller, or fails with 429 and the time until a retry. The tokens
    /// that the request costs are charged to the returned meter.
    pub async fn admit(
        self: &Arc<Self>,
        caller: String,
        rates: RateLimits,
    ) -> Result<Box<dyn Meter>, GatewayError> {
        let caller: Arc<str> = caller.into();
        let shared = match self.redis.load_full() {
            Some(redis) if redis.is_up() => {
                let unsynced = self.with_account(&caller, rates, |account| {
                    std::mem::take(&mut account.unsynced_tokens)
                });
                self.eval_script(&redis, &caller, rates, true, unsynced).await
            }
            Some(_) | None => None,
        };
        let taken = self.with_account(&caller, rates, |account| {
            account.set_limits(rates);
            match shared {
                None => account.try_take(),
                Some(Ok(())) => {
                    account.take_request();
                    Ok(())
                }
                Some(exhausted) => exhausted,
            }
        });
        if let Err(exhausted) = taken {
            self.metrics.rate_limited.get(&RateLabels { scope: exhausted.rate }).inc();
            return Err(exhausted.into_error(rates));
        }
        Ok(Box::new(AccountMeter { meters: Arc::clone(self), caller, rates }))
    }

    /// Charges tokens in Redis and takes a request if `take` is set. Returns `None` when Redis is
    /// unreachable. It may have executed the script all the same, so no charge is sent twice.
    async fn eval_script(
        &self,
        redis: &Redis,
        caller: &Arc<str>,
        rates: RateLimits,
        take: bool,
        unsynced: u64,
    ) -> Option<Result<(), Exhausted>> {
        let limit = |rate: Option<u32>| rate.unwrap_or_default().into();
        let arguments = [limit(rates.requests), limit(rates.tokens), take.into(), unsynced];
        let (which, ms) = redis.eval(SCRIPT, &format!("weir:rates:{caller}"), &arguments).await?;
        let rate = if which == 1 { Rate::Requests } else { Rate::Tokens };
        Some(if which == 0 {
            Ok(())
        } else {
            Err(Exhausted { rate, wait: Duration::from_millis(ms) })
        })
    }

    /// Takes the charges that are not in Redis yet, by caller.
    fn take_unsynced(&self) -> Vec<(Arc<str>, RateLimits, u64)> {
        let mut accounts = self.lock();
        let unsynced = accounts.iter_mut().filter(|(_, account)| account.unsynced_tokens > 0);
        unsynced
            .map(|(caller, account)| {
                (Arc::clone(caller), account.rates, std::mem::take(&mut account.unsynced_tokens))
            })
            .collect()
    }

    /// Calls `act` with a caller's account, refilled up to now; a new account starts full, with
    /// these limits.
    fn with_account<T>(
        &self,
        caller: &Arc<str>,
        rates: RateLimits,
        act: impl FnOnce(&mut Account) -> T,
    ) -> T {
        let now = Instant::now();
        let mut accounts = self.lock();
        if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(caller) {
            evict(&mut accounts, now);
        }
        let account =
            accounts.entry(Arc::clone(caller)).or_insert_with(|| Account::full(rates, now));
        account.refill(now);
        act(account)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts the accounts whose buckets are full; if there is none, evicts an arbitrary one, which
/// favours that caller.
fn evict(accounts: &mut HashMap<Arc<str>, Account>, now: Instant) {
    accounts.retain(|_, account| {
        account.refill(now);
        !account.is_full()
    });
    if accounts.len() >= MAX_ACCOUNTS
        && let Some(any) = accounts.keys().next().cloned()
    {
        accounts.remove(&any);
    }
}

/// The account that the tokens of one request are charged to.
#[derive(Debug)]
struct AccountMeter {
    meters: Arc<RateLimiter>,
    caller: Arc<str>,
    rates: RateLimits,
}

impl Meter for AccountMeter {
    fn charge(&self, tokens: u64) {
        // while Redis is unreachable, the local bucket alone is charged: to send all of it once
        // Redis is back would be too much
        let is_shared = self.meters.redis.load().as_ref().is_some_and(|redis| redis.is_up());
        self.meters.with_account(&self.caller, self.rates, |account| {
            account.tokens.level -= tokens as f64;
            account.unsynced_tokens += if is_shared { tokens } else { 0 };
        });
    }
}

/// The buckets of one caller.
#[derive(Debug)]
struct Account {
    /// The limits at its last request.
    rates: RateLimits,
    requests: Bucket,
    tokens: Bucket,
    /// Tokens charged here that are not in Redis yet.
    unsynced_tokens: u64,
    at: Instant,
}

/// The remainder of one limit: at most a minute's worth; below zero it is a debt.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
}

/// The refusal of a request: one of the caller's limits is used up.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exhausted {
    rate: Rate,
    /// The time until a retry can succeed.
    wait: Duration,
}

impl Account {
    fn full(rates: RateLimits, now: Instant) -> Self {
        let full =
            |per_minute: Option<u32>| Bucket { level: per_minute.unwrap_or_default().into() };
        Self {
            rates,
            requests: full(rates.requests),
            tokens: full(rates.tokens),
            unsynced_tokens: 0,
            at: now,
        }
    }

    /// Refills both buckets for the time since the last call.
    fn refill(&mut self, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        self.requests.refill(self.rates.requests, minutes);
        self.tokens.refill(self.rates.tokens, minutes);
        self.at = now;
    }

    /// Applies other limits; a limit that was not set before starts with a full bucket.
    fn set_limits(&mut self, rates: RateLimits) {
        let new = Self::full(rates, self.at);
        let clip = |bucket: Bucket, was: Option<u32>, full: Bucket| {
            if was.is_none() { full } else { Bucket { level: bucket.level.min(full.level) } }
        };
        self.requests = clip(self.requests, self.rates.requests, new.requests);
        self.tokens = clip(self.tokens, self.rates.tokens, new.tokens);
        self.rates = rates;
    }

    fn is_full(&self) -> bool {
        self.requests.is_full(self.rates.requests) && self.tokens.is_full(self.rates.tokens)
    }

    /// Takes a request if neither bucket is empty; else returns the longer wait.
    fn try_take(&mut self) -> Result<(), Exhausted> {
        let requests = self
            .requests
            .time_until_one(self.rates.requests)
            .map(|wait| Exhausted { rate: Rate::Requests, wait });
        let tokens = self
            .tokens
            .time_until_one(self.rates.tokens)
            .map(|wait| Exhausted { rate: Rate::Tokens, wait });
        match requests.into_iter().chain(tokens).max_by_key(|exhausted| exhausted.wait) {
            Some(exhausted) => Err(exhausted),
            None => {
                self.take_request();
                Ok(())
            }
        }
    }

    /// Takes one request. The request bucket never goes into debt, not even when Redis admitted a
    /// request that the local bucket would refuse.
    fn take_request(&mut self) {
        self.requests.level = (self.requests.level - 1.0).max(0.0);
    }
}

impl Bucket {
    fn refill(&mut self, per_minute: Option<u32>, minutes: f64) {
        if let Some(limit) = per_minute.map(f64::from) {
            self.level = (self.level + minutes * limit).min(limit);
        }
    }

    fn is_full(self, per_minute: Option<u32>) -> bool {
        per_minute.is_none_or(|limit| self.level >= limit.into())
    }

    /// Returns the time until the level reaches one; `None` when it has, or when there is no limit.
    fn time_until_one(self, per_minute: Option<u32>) -> Option<Duration> {
        let deficit = 1.0 - self.level;
        let wait = Duration::try_from_secs_f64(deficit * 60.0 / f64::from(per_minute?))
            .unwrap_or(Duration::MAX);
        (deficit > 0.0).then_some(wait)
    }
}

impl Exhausted {
    fn into_error(self, rates: RateLimits) -> GatewayError {
        let (limit, what) = match self.rate {
            Rate::Requests => (rates.requests, "requests"),
            Rate::Tokens => (rates.tokens, "tokens"),
        };
        let limit = limit.unwrap_or_default();
        // whole seconds, rounded up
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        let text = format!(
            "Rate limit: {limit} {what} per minute for this caller; try again in {seconds} s"
        );
        GatewayError::new(Kind::RateLimited, text).retry_after(Some(HeaderValue::from(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Account, MAX_ACCOUNTS, RateLimiter, RateLimits};
    use crate::error::{Kind, Shape, render};
    use crate::telemetry::Metrics;

    fn meters() -> Arc<RateLimiter> {
        Arc::new(RateLimiter::new(Arc::new(Metrics::new().unwrap())))
    }

    fn rates(requests: u32, tokens: u32) -> RateLimits {
        let some = |n| (n > 0).then_some(n);
        RateLimits { requests: some(requests), tokens: some(tokens) }
    }

    /// Returns the `Retry-After` of a refusal in seconds, or zero when the request is admitted.
    async fn refused(meters: &Arc<RateLimiter>, caller: &str, rates: RateLimits) -> u64 {
        let Err(error) = meters.admit(caller.to_owned(), rates).await else { return 0 };
        assert_eq!(error.kind(), Kind::RateLimited);
        let response = render(&error, Shape::OpenAi, "");
        assert_eq!(response.status(), 429);
        response.headers()["retry-after"].to_str().unwrap().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_at_once_then_evenly_and_retry_after_is_enough() {
        let (meters, six) = (meters(), rates(6, 0));
        for _ in 0..6 {
            assert_eq!(refused(&meters, "a", six).await, 0);
        }
        assert_eq!(refused(&meters, "a", six).await, 10);
        assert_eq!(refused(&meters, "b", six).await, 0, "each caller has its own bucket");
        advance(Duration::from_millis(9500)).await;
        assert_eq!(refused(&meters, "a", six).await, 1, "rounded up");
        advance(Duration::from_secs(1)).await;
        assert_eq!(refused(&meters, "a", six).await, 0);
        advance(Duration::from_hours(1)).await;
        for _ in 0..6 {
            assert_eq!(refused(&meters, "a", six).await, 0);
        }
        assert!(refused(&meters, "a", six).await > 0, "no more than a minute's worth is saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_charged_afterwards_and_a_debt_delays_requests() {
        let (meters, hundred) = (meters(), rates(0, 100));
        let first = meters.admit("a".into(), hundred).await.unwrap();
        let second = meters.admit("a".into(), hundred).await.unwrap();
        first.charge(100);
        second.charge(99);
        assert_eq!(
            refused(&meters, "a", hundred).await,
            60,
            "100 tokens short of one, at 100 a minute"
        );
        advance(Duration::from_secs(60)).await;
        assert_eq!(refused(&meters, "a", hundred).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_costs_nothing_and_reports_the_longer_wait() {
        let (meters, both) = (meters(), rates(60, 60));
        meters.admit("a".into(), both).await.unwrap().charge(89);
        assert_eq!(refused(&meters, "a", both).await, 30);
        assert_eq!(refused(&meters, "a", both).await, 30);
        advance(Duration::from_secs(30)).await;
        assert_eq!(refused(&meters, "a", both).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_apply_at_once() {
        let meters = meters();
        assert_eq!(refused(&meters, "a", rates(60, 0)).await, 0);
        for _ in 0..2 {
            assert_eq!(refused(&meters, "a", rates(2, 0)).await, 0);
        }
        assert_eq!(refused(&meters, "a", rates(2, 0)).await, 30);
        meters.admit("a".into(), rates(0, 100)).await.unwrap().charge(160);
        assert_eq!(
            refused(&meters, "a", rates(0, 100)).await,
            37,
            "a new limit starts with a full bucket"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_bounded_and_full_buckets_are_evicted_first() {
        let (meters, one) = (meters(), rates(1, 0));
        for caller in 0..MAX_ACCOUNTS {
            assert_eq!(refused(&meters, &caller.to_string(), one).await, 0);
        }
        advance(Duration::from_secs(30)).await;
        let late = meters.with_account(&"1".into(), one, Account::try_take).is_err();
        assert!(late, "not full yet");
        let count = || meters.lock().len();
        assert_eq!((refused(&meters, "another", one).await, count()), (0, MAX_ACCOUNTS));
        advance(Duration::from_secs(30)).await;
        assert_eq!((refused(&meters, "one more", one).await, count()), (0, 2));
        assert!(refused(&meters, "another", one).await > 0, "a bucket that is not full is kept");
    }

    #[test]
    fn an_account_without_limits_is_full() {
        assert!(Account::full(RateLimits::default(), Instant::now()).is_full());
        assert_eq!(rates(1, 0).or(rates(2, 3)), rates(1, 3));
    }
}
