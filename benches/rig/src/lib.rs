//! What `mock`, `load` and `soak` share: one clock, command-line flags, percentiles, a pace, and as
//! much HTTP/1.1 as programs of ours need to speak to each other through a gateway.
//!
//! They are written on bare sockets: they share one core, and whatever they spend there is not left
//! to drive the gateway on the other. A mock on hyper costs 8.5 µs a request, which is half of what
//! nginx needs to pass one on.

pub mod client;
pub mod http;
pub mod pace;
pub mod server;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;

use rustix::time::{ClockId, clock_gettime};

/// Whatever went wrong, for the user to read.
pub type Failure = Box<dyn Error>;

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock in every process of one machine, so that the
/// mock's stamps mean something to the load generator.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Command-line flags: `--name value`.
#[derive(Debug)]
pub struct Flags(HashMap<String, String>);

impl Flags {
    /// Reads `--name value` pairs.
    pub fn parse(mut phrase: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut flags = HashMap::new();
        while let Some(word) = phrase.next() {
            let name =
                word.strip_prefix("--").ok_or_else(|| format!("{word}: flags start with --"))?;
            let value = phrase.next().ok_or_else(|| format!("--{name} needs a value"))?;
            flags.insert(name.to_owned(), value);
        }
        Ok(Self(flags))
    }

    /// Takes a flag's value, or the default when it was not given.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, Failure> {
        self.0.remove(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| format!("--{name} {text}: not a value of this flag").into())
        })
    }

    /// Fails when a flag was given that nobody took.
    pub fn finish(self) -> Result<(), Failure> {
        self.0
            .into_keys()
            .next()
            .map_or(Ok(()), |name| Err(format!("--{name} is no flag of this command").into()))
    }
}

/// Refuses addresses of other machines: this rig is no tool to load those.
pub fn loopback(text: &str) -> Result<SocketAddr, Failure> {
    let address: SocketAddr = text.parse().map_err(|_| format!("{text}: expected IP:PORT"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{text}: loopback addresses only").into())
    }
}

/// Measured times in nanoseconds.
#[derive(Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sample at this share, in thousandths; 0 without samples.
    pub fn at(&mut self, share: usize) -> u64 {
        self.0.sort_unstable();
        self.0.len().checked_sub(1).map_or(0, |last| self.0[last * share / 1000])
    }

    /// Appends `,"<name>_p50":…` and so on, in microseconds, to a JSON object; nothing without
    /// samples.
    pub fn summarize(&mut self, name: &str, json: &mut String) {
        let Some(last) = self.0.len().checked_sub(1) else {
            return;
        };
        self.0.sort_unstable();
        for (label, share) in
            [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999), ("max", 1000)]
        {
            let micros = self.0[last * share / 1000] as f64 / 1000.0;
            let _ = write!(json, ",\"{name}_{label}\":{micros:.1}");
        }
    }
}
