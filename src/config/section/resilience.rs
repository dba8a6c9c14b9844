//! `[resilience]`, as far as it is about model servers.

use crate::config::show_duration;
use crate::config::toml::reader::Reader;
use crate::upstream::{BreakerSettings, Hedging, Resilience, WatchSettings};

/// All of it but `drain`, which is the server's.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Resilience> {
    let retry_share = reader.number(&["resilience", "retry_budget"]);
    let percentile = reader.number(&["resilience", "hedging", "percentile"]);
    let share = reader.number(&["resilience", "hedging", "budget"])?;
    let hedging = percentile.map(|percentile| Hedging { percentile, share });
    let breaker = breaker(reader);
    let mut time = |name| reader.duration(&["resilience", "health_check", name]);
    let (every, timeout) = (time("every"), time("timeout"));
    let health_check = WatchSettings { every: every?, timeout: timeout? };
    Some(Resilience { retry_share: retry_share?, hedging, breaker: breaker?, health_check })
}

fn breaker(reader: &mut Reader<'_>) -> Option<BreakerSettings> {
    const AT: &str = "resilience";
    let failures =
        reader.integer(&[AT, "breaker", "failures"]).and_then(|number| number.try_into().ok());
    let error_rate = reader.number(&[AT, "breaker", "error_rate"]);
    let mut time = |name| reader.duration(&[AT, "breaker", name]);
    let (open, open_max, slow_start) = (time("open"), time("open_max"), time("slow_start"));
    let (open, open_max) = (open?, open_max?);
    if open > open_max {
        let message =
            format!("expected at least resilience.breaker.open, which is {}", show_duration(open));
        let fault =
            reader.fault_of("resilience.breaker.open_max", message).said(show_duration(open_max));
        reader.faults.push(fault);
        return None;
    }
    Some(BreakerSettings {
        failures: failures?,
        error_rate: error_rate?,
        open,
        open_max,
        slow_start: slow_start?,
    })
}
