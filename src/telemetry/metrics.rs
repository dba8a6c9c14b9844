//! Every metric: name, help, labels, buckets. Names are fixed by config.md; nothing else in the
//! tree registers one. Counters are atomics of the `prometheus` crate, shared by the workers: the
//! handles of a (surface, feature, model) are looked up once per request in a per-worker map, not
//! by label strings.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::labels::{Outcome, Phase, Surface};
use super::record::Facts;

/// Seconds; from a cached completion to GitLab's own ten-minute maximum.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];
/// Seconds of our own work: 10 µs to 100 ms.
const OVERHEAD_SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05,
    0.1,
];

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    inflight: [IntGauge; Surface::ALL.len()],
    /// Requests under way per endpoint of a model.
    pub upstream_inflight: IntGaugeVec,
    /// 1 while the endpoint is there, as far as is known.
    pub upstream_healthy: IntGaugeVec,
    /// 1 while the Redis of `limits.shared` answers. Without one there is no such series.
    pub shared_limits_up: IntGaugeVec,
    /// 0 closed, 1 half open (a request sees whether the endpoint is back), 2 open.
    pub breaker_state: IntGaugeVec,
    /// Requests refused for their caller's rates, by which one.
    pub rate_limited: IntCounterVec,
    /// Requests that wait for a place at a model.
    pub model_waiting: IntGaugeVec,
    /// Reloads by outcome: `ok`, `failed`, `unchanged`.
    pub config_reloads: IntCounterVec,
    /// 0 while the file on disk does not check.
    pub config_reload_ok: IntGauge,
    /// Counts up with every snapshot in force.
    pub config_generation: IntGauge,
    /// Unix time of the end of the first certificate of the chain in force. Without TLS there is no
    /// such series.
    pub tls_expiry: IntGaugeVec,
    /// Handshakes that came to nothing, by reason.
    pub tls_handshakes_failed: IntCounterVec,
    /// Connections closed as they were accepted: their client had too many.
    pub connections_refused: IntCounter,
    /// Access-log lines given up because the reader of standard output was too slow.
    pub log_lines_dropped: IntCounter,
}

/// The families that count finished requests.
#[derive(Debug)]
struct Requests {
    total: IntCounterVec,
    duration: HistogramVec,
    overhead: HistogramVec,
    first_token: HistogramVec,
    upstream: HistogramVec,
    queue: HistogramVec,
    tokens: IntCounterVec,
    errors: IntCounterVec,
    retries: IntCounterVec,
    fallbacks: IntCounterVec,
    disconnects: IntCounterVec,
}

/// The handles of one (surface, feature, model).
pub(super) struct Series {
    outcomes: [IntCounter; Outcome::ALL.len()],
    duration: Histogram,
    overhead: Histogram,
    first_token: Histogram,
    upstream: Histogram,
    queue: Histogram,
    tokens_in: IntCounter,
    tokens_out: IntCounter,
}

impl Requests {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let route = &["surface", "feature", "model"];
        let ended = &["surface", "feature", "model", "provider", "outcome"];
        let (total_help, seconds) =
            ("Requests, by how they ended.", "From the request's head to the answer's last byte.");
        let own = "Weir's own time: total minus the waits for the model server and for a place.";
        let place = "Waiting for a place (limits.in_flight, models.*.max_parallel), of the requests that had to.";
        let ttft = "From the request's head to the first content.";
        let waited = "From sending to the model server to its last byte, of the attempt that was answered, else of the last.";
        let failed = "Failed requests, by code (A1000: a limit expired) and phase.";
        let again = "Further attempts: a kept connection had died, or a replica failed before its first content.";
        let instead = "Models that failed before an answer had begun, so that the feature's next one was asked.";
        let tokens = "Tokens as reported; estimated at 4 bytes a token where a stream broke off or nobody counted.";
        let left = "Clients that left before the end; the upstream was cancelled.";
        Ok(Self {
            total: counter(r, "requests_total", total_help, ended)?,
            duration: histogram(r, "request_duration_seconds", seconds, route, SECONDS)?,
            overhead: histogram(r, "overhead_seconds", own, &["surface"], OVERHEAD_SECONDS)?,
            first_token: histogram(r, "time_to_first_token_seconds", ttft, route, SECONDS)?,
            upstream: histogram(r, "upstream_duration_seconds", waited, &["model"], SECONDS)?,
            queue: histogram(r, "queue_seconds", place, &["model"], SECONDS)?,
            tokens: counter(r, "tokens_total", tokens, &["direction", "feature", "model"])?,
            errors: counter(r, "errors_total", failed, &["code", "phase", "feature", "model"])?,
            retries: counter(r, "retries_total", again, &["model"])?,
            fallbacks: counter(r, "fallbacks_total", instead, &["feature", "from", "to"])?,
            disconnects: counter(r, "client_disconnects_total", left, &["surface"])?,
        })
    }
}

impl Metrics {
    /// Registers everything. Fails only on a name or label clash, which the unit test below rules
    /// out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        let inflight = gauges(&r, "inflight", "Requests being answered.", &["surface"])?;
        let build =
            gauges(&r, "build_info", "Constant 1; the version is the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let endpoint = &["model", "endpoint"];
        let (under_way, there) =
            ("Requests under way at an endpoint.", "0 while an endpoint cannot be reached.");
        let breaker =
            "0 closed, 1 half open (one request sees), 2 open: the endpoint is passed over.";
        let (line, queued) =
            (&["model"], "Requests that wait for a place at a model (max_parallel).");
        let crowd = "Connections closed as they were accepted (limits.connections_per_client).";
        let together =
            "1 while the Redis of limits.shared answers; 0: each gateway counts for itself.";
        let often = "Requests refused with 429 for their caller's rate: of requests or of tokens.";
        let lost = "Access-log lines given up because standard output was too slow.";
        let expiry = "When the first certificate of the public port's chain ends, in Unix seconds; absent without TLS.";
        let no_tls = "TLS handshakes of clients that came to nothing, by reason.";
        let metrics = Self {
            requests: Requests::new(&r)?,
            inflight: Surface::ALL.map(|surface| inflight.with_label_values(&[surface.label()])),
            upstream_inflight: gauges(&r, "upstream_inflight", under_way, endpoint)?,
            upstream_healthy: gauges(&r, "upstream_healthy", there, endpoint)?,
            breaker_state: gauges(&r, "breaker_state", breaker, endpoint)?,
            shared_limits_up: gauges(&r, "shared_limits_up", together, &[])?,
            rate_limited: counter(&r, "rate_limited_total", often, &["scope"])?,
            model_waiting: gauges(&r, "model_waiting", queued, line)?,
            config_reloads: counter(
                &r,
                "config_reloads_total",
                "Reloads, by outcome.",
                &["outcome"],
            )?,
            config_reload_ok: gauge(
                &r,
                "config_reload_ok",
                "0 while the file on disk does not check.",
            )?,
            config_generation: gauge(
                &r,
                "config_generation",
                "Counts the configurations put in force.",
            )?,
            tls_expiry: gauges(&r, "tls_certificate_expiry_timestamp_seconds", expiry, &[])?,
            tls_handshakes_failed: counter(&r, "tls_handshakes_failed_total", no_tls, &["reason"])?,
            connections_refused: register(
                &r,
                IntCounter::with_opts(opts("connections_refused_total", crowd))?,
            )?,
            log_lines_dropped: register(
                &r,
                IntCounter::with_opts(opts("access_log_lines_dropped_total", lost))?,
            )?,
            registry: r,
        };
        metrics.config_reload_ok.set(1);
        Ok(metrics)
    }

    /// The text Prometheus reads (exposition format 0.0.4).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    /// Looks up the handles of these labels.
    pub(super) fn series(&self, facts: &Facts) -> Series {
        let (surface, feature, model) = (facts.surface.label(), facts.feature, &*facts.model);
        let route = &[surface, feature, model];
        let outcome = |o: Outcome| {
            self.requests.total.with_label_values(&[
                surface,
                feature,
                model,
                facts.provider,
                o.label(),
            ])
        };
        Series {
            outcomes: Outcome::ALL.map(outcome),
            duration: self.requests.duration.with_label_values(route),
            overhead: self.requests.overhead.with_label_values(&[surface]),
            first_token: self.requests.first_token.with_label_values(route),
            upstream: self.requests.upstream.with_label_values(&[model]),
            queue: self.requests.queue.with_label_values(&[model]),
            tokens_in: self.requests.tokens.with_label_values(&["input", feature, model]),
            tokens_out: self.requests.tokens.with_label_values(&["output", feature, model]),
        }
    }

    /// What counts only when something went wrong; looked up by label, since it is rare.
    pub(super) fn failed(&self, facts: &Facts) {
        if let Some(code) = facts.error_code() {
            let phase = facts.phase().map_or("-", Phase::label);
            self.requests
                .errors
                .with_label_values(&[code, phase, facts.feature, &*facts.model])
                .inc();
        }
        if facts.outcome() == Outcome::Cancelled {
            self.requests.disconnects.with_label_values(&[facts.surface.label()]).inc();
        }
        let retried = |model: &str, retries: u32| {
            if retries > 0 {
                self.requests.retries.with_label_values(&[model]).inc_by(retries.into());
            }
        };
        retried(&facts.model, facts.retries - facts.retries_before());
        let asked_next = facts.earlier.iter().skip(1).map(|next| &next.model).chain([&facts.model]);
        for (earlier, next) in facts.earlier.iter().zip(asked_next) {
            retried(&earlier.model, earlier.retries);
            self.requests
                .fallbacks
                .with_label_values(&[facts.feature, &*earlier.model, &**next])
                .inc();
        }
    }

    /// Requests being answered on this surface.
    pub(super) fn inflight(&self, surface: Surface) -> &IntGauge {
        &self.inflight[surface as usize]
    }

    /// Everything as the registry sees it, for `/status`.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

impl Series {
    pub(super) fn finish(&self, facts: &Facts, now: tokio::time::Instant) {
        let outcome = facts.outcome();
        if let Some(index) = Outcome::ALL.iter().position(|o| *o == outcome) {
            self.outcomes[index].inc();
        }
        let total = now.saturating_duration_since(facts.started);
        self.duration.observe(total.as_secs_f64());
        if let Some(attempt) = facts.attempt_time(now) {
            self.upstream.observe(attempt.as_secs_f64());
        }
        if facts.upstream_started.is_some() {
            self.overhead.observe(facts.overhead(now).as_secs_f64());
        }
        if let Some(queue) = facts.queue.total(now) {
            self.queue.observe(queue.as_secs_f64());
        }
        if let Some(ttft) = facts.time_to_first_token() {
            self.first_token.observe(ttft.as_secs_f64());
        }
        if facts.usage.is_reported() {
            self.tokens_in.inc_by(facts.usage.input);
            self.tokens_out.inc_by(facts.usage.output);
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("weir")
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    r: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    r.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(r, IntCounterVec::new(opts(name, help), labels)?)
}

fn gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    register(r, IntGaugeVec::new(opts(name, help), labels)?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(r, IntGauge::with_opts(opts(name, help))?)
}

fn histogram(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).namespace("weir").buckets(buckets.to_vec());
    register(r, HistogramVec::new(opts, labels)?)
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn every_name_registers_and_renders() {
        let text = Metrics::new().unwrap().render();
        assert!(text.contains("weir_build_info{version="), "{text}");
        assert!(text.contains("weir_config_reload_ok 1"), "{text}");
    }
}
