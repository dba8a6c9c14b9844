//! How much each caller may ask for: requests and tokens per minute, in buckets that fill evenly.
//!
//! What an answer costs is known when it ends, so tokens are charged afterwards: a bucket may go
//! below zero, and the next request waits until the debt is paid. That is why this is not the
//! `governor` crate, whose cells know no debt.
//!
//! With `limits.shared` the buckets are in Redis, where all gateways see them, by the same
//! arithmetic (`bucket.lua`). Those here go on beside them, for the time when Redis is away.

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

/// The same buckets, there.
const SCRIPT: &str = include_str!("bucket.lua");
/// How often Redis is told of charges, and asked whether it is back.
const TICK: Duration = Duration::from_secs(1);

/// Callers that are remembered. Beyond it those go first whose buckets are full, which is as good
/// as forgotten.
const MAX_ACCOUNTS: usize = 10_000;

/// What a caller may ask for in a minute; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// `requests_per_minute`
    pub requests: Option<u32>,
    /// `tokens_per_minute`: read and written.
    pub tokens: Option<u32>,
}

impl Rates {
    /// These where they say something, else those.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self { requests: self.requests.or(base.requests), tokens: self.tokens.or(base.tokens) }
    }

    /// Whether there is no limit.
    pub const fn is_unlimited(self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }
}

/// The buckets of all callers, over all workers and across reloads; one per process.
#[derive(Debug)]
pub struct Meters {
    accounts: Mutex<HashMap<Arc<str>, Account>>,
    shared: ArcSwapOption<Redis>,
    metrics: Arc<Metrics>,
}

impl Meters {
    /// Nobody has asked for anything yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { accounts: Mutex::default(), shared: ArcSwapOption::empty(), metrics }
    }

    /// Where the buckets are that several gateways share, if they do.
    pub fn share(&self, url: Option<RedisUrl>) {
        let current = self.shared.load();
        match url {
            Some(url) if current.as_ref().is_some_and(|redis| redis.is_of(&url)) => {}
            Some(url) => {
                let up = self.metrics.shared_limits_up.get(&NoLabels {});
                self.shared.store(Some(Arc::new(Redis::new(url, up))));
            }
            None => {
                self.shared.store(None);
                self.metrics.shared_limits_up.remove(&NoLabels {});
            }
        }
    }

    /// Keeps Redis in reach and tells it of charges, for ever. Run it once.
    pub async fn tend(self: Arc<Self>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(redis) = self.shared.load_full() {
                redis.tend().await;
                for (caller, rates, owed) in self.owed() {
                    if self.ask(&redis, &caller, rates, false, owed).await.is_none() {
                        break;
                    }
                }
            }
        }
    }

    /// Counts a request of this caller, or refuses it with 429 and when to come back. What it costs
    /// in tokens is charged to what is returned.
    pub async fn admit(
        self: &Arc<Self>,
        caller: String,
        rates: Rates,
    ) -> Result<Box<dyn Meter>, GatewayError> {
        let caller: Arc<str> = caller.into();
        let shared = match self.shared.load_full() {
            Some(redis) if redis.is_up() => {
                let owed = self.with(&caller, rates, |account| std::mem::take(&mut account.owed));
                self.ask(&redis, &caller, rates, true, owed).await
            }
            Some(_) | None => None,
        };
        let taken = self.with(&caller, rates, |account| {
            account.set(rates);
            match shared {
                None => account.take(),
                Some(Ok(())) => {
                    account.spend();
                    Ok(())
                }
                Some(spent) => spent,
            }
        });
        if let Err(spent) = taken {
            self.metrics.rate_limited.get(&RateLabels { scope: spent.rate }).inc();
            return Err(spent.error(rates));
        }
        Ok(Box::new(Charge { meters: Arc::clone(self), caller, rates }))
    }

    /// Takes a request, if `take`, and charges what is owed, in Redis. `None` when that is away. It
    /// may have heard all the same, so nothing is told twice.
    async fn ask(
        &self,
        redis: &Redis,
        caller: &Arc<str>,
        rates: Rates,
        take: bool,
        owed: u64,
    ) -> Option<Result<(), Spent>> {
        let most = |rate: Option<u32>| rate.unwrap_or_default().into();
        let arguments = [most(rates.requests), most(rates.tokens), take.into(), owed];
        let (which, ms) = redis.eval(SCRIPT, &format!("weir:rates:{caller}"), &arguments).await?;
        let rate = if which == 1 { Rate::Requests } else { Rate::Tokens };
        Some(if which == 0 { Ok(()) } else { Err(Spent { rate, wait: Duration::from_millis(ms) }) })
    }

    /// Who owes Redis how much; from now on it is paid.
    fn owed(&self) -> Vec<(Arc<str>, Rates, u64)> {
        let mut accounts = self.lock();
        let owing = accounts.iter_mut().filter(|(_, account)| account.owed > 0);
        owing
            .map(|(caller, account)| {
                (Arc::clone(caller), account.rates, std::mem::take(&mut account.owed))
            })
            .collect()
    }

    /// Does something with a caller's account as it is now; one that is not known begins with these
    /// rates.
    fn with<T>(&self, caller: &Arc<str>, rates: Rates, act: impl FnOnce(&mut Account) -> T) -> T {
        let now = Instant::now();
        let mut accounts = self.lock();
        if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(caller) {
            make_room(&mut accounts, now);
        }
        let account =
            accounts.entry(Arc::clone(caller)).or_insert_with(|| Account::full(rates, now));
        account.fill(now);
        act(account)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets those who have all they may have; if nobody has, some caller, who is then better off.
fn make_room(accounts: &mut HashMap<Arc<str>, Account>, now: Instant) {
    accounts.retain(|_, account| {
        account.fill(now);
        !account.is_full()
    });
    if accounts.len() >= MAX_ACCOUNTS
        && let Some(any) = accounts.keys().next().cloned()
    {
        accounts.remove(&any);
    }
}

/// What the tokens of one request are charged to.
#[derive(Debug)]
struct Charge {
    meters: Arc<Meters>,
    caller: Arc<str>,
    rates: Rates,
}

impl Meter for Charge {
    fn charge(&self, tokens: u64) {
        // while it is away the bucket here stands for it: all at once, when it is back, would be
        // too much
        let is_shared = self.meters.shared.load().as_ref().is_some_and(|redis| redis.is_up());
        self.meters.with(&self.caller, self.rates, |account| {
            account.tokens.level -= tokens as f64;
            account.owed += if is_shared { tokens } else { 0 };
        });
    }
}

/// What a caller has left.
#[derive(Debug)]
struct Account {
    /// Those that its last request found.
    rates: Rates,
    requests: Bucket,
    tokens: Bucket,
    /// Tokens charged here that Redis does not know of.
    owed: u64,
    at: Instant,
}

/// How much is left of one rate: at most a minute's worth; below zero it is a debt.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
}

/// One of a caller's rates is used up.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spent {
    rate: Rate,
    /// Until it is worth another try.
    wait: Duration,
}

impl Account {
    fn full(rates: Rates, now: Instant) -> Self {
        let full =
            |per_minute: Option<u32>| Bucket { level: per_minute.unwrap_or_default().into() };
        Self { rates, requests: full(rates.requests), tokens: full(rates.tokens), owed: 0, at: now }
    }

    /// Time has passed.
    fn fill(&mut self, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        self.requests.fill(self.rates.requests, minutes);
        self.tokens.fill(self.rates.tokens, minutes);
        self.at = now;
    }

    /// Other rates hold; one that is new begins with a full bucket.
    fn set(&mut self, rates: Rates) {
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

    /// One request, if there is something left of both; else the longer wait.
    fn take(&mut self) -> Result<(), Spent> {
        let requests = self
            .requests
            .wait(self.rates.requests)
            .map(|wait| Spent { rate: Rate::Requests, wait });
        let tokens =
            self.tokens.wait(self.rates.tokens).map(|wait| Spent { rate: Rate::Tokens, wait });
        match requests.into_iter().chain(tokens).max_by_key(|spent| spent.wait) {
            Some(spent) => Err(spent),
            None => {
                self.spend();
                Ok(())
            }
        }
    }

    /// One request less; requests are never owed, also where Redis allowed one that was not left
    /// here.
    fn spend(&mut self) {
        self.requests.level = (self.requests.level - 1.0).max(0.0);
    }
}

impl Bucket {
    fn fill(&mut self, per_minute: Option<u32>, minutes: f64) {
        if let Some(most) = per_minute.map(f64::from) {
            self.level = (self.level + minutes * most).min(most);
        }
    }

    fn is_full(self, per_minute: Option<u32>) -> bool {
        per_minute.is_none_or(|most| self.level >= most.into())
    }

    /// How long until there is one again; `None`: there is one now, or no limit.
    fn wait(self, per_minute: Option<u32>) -> Option<Duration> {
        let missing = 1.0 - self.level;
        let wait = Duration::try_from_secs_f64(missing * 60.0 / f64::from(per_minute?))
            .unwrap_or(Duration::MAX);
        (missing > 0.0).then_some(wait)
    }
}

impl Spent {
    fn error(self, rates: Rates) -> GatewayError {
        let (most, what) = match self.rate {
            Rate::Requests => (rates.requests, "requests"),
            Rate::Tokens => (rates.tokens, "tokens"),
        };
        let most = most.unwrap_or_default();
        // in whole seconds, and never too soon
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        let text = format!(
            "Rate limit: {most} {what} per minute for this caller; try again in {seconds} s"
        );
        GatewayError::new(Kind::RateLimited, text).retry_after(Some(HeaderValue::from(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Account, MAX_ACCOUNTS, Meters, Rates};
    use crate::error::{Kind, Shape, render};
    use crate::telemetry::Metrics;

    fn meters() -> Arc<Meters> {
        Arc::new(Meters::new(Arc::new(Metrics::new().unwrap())))
    }

    fn rates(requests: u32, tokens: u32) -> Rates {
        let some = |n| (n > 0).then_some(n);
        Rates { requests: some(requests), tokens: some(tokens) }
    }

    /// The seconds that a refusal says, or zero when the request is admitted.
    async fn refused(meters: &Arc<Meters>, caller: &str, rates: Rates) -> u64 {
        let Err(error) = meters.admit(caller.to_owned(), rates).await else { return 0 };
        assert_eq!(error.kind(), Kind::RateLimited);
        let response = render(&error, Shape::OpenAi, "");
        assert_eq!(response.status(), 429);
        response.headers()["retry-after"].to_str().unwrap().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_at_once_then_evenly_and_the_wait_that_is_told_is_enough() {
        let (meters, six) = (meters(), rates(6, 0));
        for _ in 0..6 {
            assert_eq!(refused(&meters, "a", six).await, 0);
        }
        assert_eq!(refused(&meters, "a", six).await, 10);
        assert_eq!(refused(&meters, "b", six).await, 0, "everybody has a bucket of their own");
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
    async fn tokens_are_charged_afterwards_and_a_debt_is_waited_for() {
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
    async fn a_refusal_costs_nothing_and_the_longer_wait_is_told() {
        let (meters, both) = (meters(), rates(60, 60));
        meters.admit("a".into(), both).await.unwrap().charge(89);
        assert_eq!(refused(&meters, "a", both).await, 30);
        assert_eq!(refused(&meters, "a", both).await, 30);
        advance(Duration::from_secs(30)).await;
        assert_eq!(refused(&meters, "a", both).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn other_rates_hold_at_once() {
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
            "a rate that is new begins full"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_remembered_in_bounded_number_and_full_buckets_go_first() {
        let (meters, one) = (meters(), rates(1, 0));
        for caller in 0..MAX_ACCOUNTS {
            assert_eq!(refused(&meters, &caller.to_string(), one).await, 0);
        }
        advance(Duration::from_secs(30)).await;
        let late = meters.with(&"1".into(), one, Account::take).is_err();
        assert!(late, "not full yet");
        let count = || meters.lock().len();
        assert_eq!((refused(&meters, "another", one).await, count()), (0, MAX_ACCOUNTS));
        advance(Duration::from_secs(30)).await;
        assert_eq!((refused(&meters, "one more", one).await, count()), (0, 2));
        assert!(refused(&meters, "another", one).await > 0, "who has used something is kept");
    }

    #[test]
    fn an_account_that_nobody_limits_is_full() {
        assert!(Account::full(Rates::default(), Instant::now()).is_full());
        assert_eq!(rates(1, 0).over(rates(2, 3)), rates(1, 3));
    }
}
