//! `[resilience]`, as far as it is about model servers.

use crate::config::toml::diagnostic::Reported;
use crate::config::toml::reader::Reader;
use crate::config::toml::units::show_duration;
use crate::upstream::{BreakerSettings, HealthCheckSettings, Hedging, Resilience};

/// Reads everything but `drain` and `drain_delay`, which are the server's.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Resilience, Reported> {
    let retry_share = reader.number(&["resilience", "retry_budget"]);
    let percentile = reader.optional_number(&["resilience", "hedging", "percentile"]);
    let share = reader.number(&["resilience", "hedging", "budget"]);
    let breaker = breaker(reader);
    let every = reader.duration(&["resilience", "health_check", "every"]);
    let timeout = reader.duration(&["resilience", "health_check", "timeout"]);
    let share = share?;
    Ok(Resilience {
        retry_share: retry_share?,
        hedging: percentile?.map(|percentile| Hedging { percentile, share }),
        breaker: breaker?,
        health_check: HealthCheckSettings { every: every?, timeout: timeout? },
    })
}

fn breaker(reader: &mut Reader<'_>) -> Result<BreakerSettings, Reported> {
    const OPEN_MAX: &str = "resilience.breaker.open_max";
    let path = |key| ["resilience", "breaker", key];
    let failures = reader.integer(&path("failures"));
    let error_rate = reader.number(&path("error_rate"));
    let open = reader.duration(&path("open"));
    let open_max = reader.duration(&path("open_max"));
    let slow_start = reader.duration(&path("slow_start"));
    let (open, open_max) = (open?, open_max?);
    if open > open_max {
        let message =
            format!("expected at least resilience.breaker.open, which is {}", show_duration(open));
        let fault = reader.fault_of(OPEN_MAX, message).found(show_duration(open_max));
        return Err(reader.report(fault));
    }
    Ok(BreakerSettings {
        failures: failures?.try_into().map_err(|_| Reported)?,
        error_rate: error_rate?,
        open,
        open_max,
        slow_start: slow_start?,
    })
}
