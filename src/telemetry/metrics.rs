//! The table of metrics: a row declares name, labels and help, and buckets where it is a histogram.
//! Names are an interface that dashboards depend on; nothing else in the tree registers one.
//!
//! The counters are atomics of the `prometheus` crate, shared by the workers. A request does not
//! look up a series by its labels: each worker keeps handles (`worker.rs`).

use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};

use super::family::{Counters, Declared, Gauges, Histograms, Row};
use super::labels::{
    BuildLabels, EndpointLabels, ErrorLabels, FallbackLabels, HandshakeFailure, HandshakeLabels,
    ModelLabels, NoLabels, Rate, RateLabels, ReloadLabels, ReloadOutcome, RequestLabels,
    RouteLabels, Surface, SurfaceLabels, TokenLabels,
};

/// Buckets from a cached completion to GitLab's own maximum of ten minutes. Seconds.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];
/// Buckets of Weir's own time, 10 µs to 100 ms. Seconds.
const OVERHEAD_SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05,
    0.1,
];

/// Declares [`Metrics`]: one field per row, registered under `weir_` and the row's name.
macro_rules! metrics {
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
    ($($field:ident: $type:ty = $name:literal $(in $buckets:ident)?, $help:literal;)*) => {
        /// All metrics of the process.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Metrics {
            fn register(registry: Registry) -> Result<Self, prometheus::Error> {
                $(let row =
                    Row { name: $name, help: $help, buckets: metrics!(@buckets $($buckets)?) };
                let $field = <$type>::register(&registry, row)?;)*
                Ok(Self { registry, $($field),* })
            }
        }
    };
}

metrics! {
    // finished requests
    requests: Counters<RequestLabels> = "requests_total",
        "Finished requests, by outcome.";
    duration: Histograms<RouteLabels> = "request_duration_seconds" in SECONDS,
        "From the request head to the last byte of the response.";
    time_to_first_token: Histograms<RouteLabels> = "time_to_first_token_seconds" in SECONDS,
        "From the request head to the first content of the response.";
    overhead: Histograms<SurfaceLabels> = "overhead_seconds" in OVERHEAD_SECONDS,
        "Weir's own time: the duration without the upstream and the queue.";
    upstream_duration: Histograms<ModelLabels> = "upstream_duration_seconds" in SECONDS,
        "From sending the request upstream to its last byte, of the attempt that was relayed, else of the last one.";
    queue: Histograms<ModelLabels> = "queue_seconds" in SECONDS,
        "Time in the queue for a concurrency permit (limits.in_flight, models.*.max_parallel), of requests that queued.";
    tokens: Counters<TokenLabels> = "tokens_total",
        "Tokens as reported; estimated at 4 bytes a token where a stream broke off or the provider reported none.";
    errors: Counters<ErrorLabels> = "errors_total",
        "Failed requests, by code (A1000: a timeout expired) and phase.";
    retries: Counters<ModelLabels> = "retries_total",
        "Retries at the same model: a kept connection was dead, or a replica failed before its first content.";
    fallbacks: Counters<FallbackLabels> = "fallbacks_total",
        "Fallbacks to the feature's next model: the one before failed before its response began.";
    client_disconnects: Counters<SurfaceLabels> = "client_disconnects_total",
        "Clients that disconnected before the end of the response; the upstream request was cancelled.";

    // now
    inflight: Gauges<SurfaceLabels> = "inflight",
        "Requests in flight.";
    upstream_inflight: Gauges<EndpointLabels> = "upstream_inflight",
        "Requests in flight at an endpoint.";
    upstream_healthy: Gauges<EndpointLabels> = "upstream_healthy",
        "1 while an endpoint is reachable, else 0.";
    breaker_state: Gauges<EndpointLabels> = "breaker_state",
        "Circuit breaker of an endpoint: 0 closed, 1 half open (one request probes it), 2 open.";
    model_waiting: Gauges<ModelLabels> = "model_waiting",
        "Requests in the queue for a concurrency permit of a model (max_parallel).";

    // limits
    rate_limited: Counters<RateLabels> = "rate_limited_total",
        "Requests rejected with 429, by the caller's rate limit: requests or tokens.";
    shared_limits_up: Gauges<NoLabels> = "shared_limits_up",
        "1 while the Redis of limits.shared is reachable; 0: each gateway counts alone. Absent without one.";
    connections_refused: IntCounter = "connections_refused_total",
        "Connections closed at accept, over limits.connections_per_client.";

    // configuration
    config_reloads: Counters<ReloadLabels> = "config_reloads_total",
        "Configuration reloads, by outcome.";
    config_reload_ok: IntGauge = "config_reload_ok",
        "0 while the file on disk has faults, else 1.";
    config_generation: IntGauge = "config_generation",
        "Configurations put in force since the start.";
    build_info: Gauges<BuildLabels> = "build_info",
        "Constant 1; the version is the label.";

    // TLS on the public port
    tls_expiry: Gauges<NoLabels> = "tls_certificate_expiry_timestamp_seconds",
        "When the first certificate of the public port's chain expires, in Unix seconds; absent without TLS.";
    tls_handshakes_failed: Counters<HandshakeLabels> = "tls_handshakes_failed_total",
        "Failed TLS handshakes of clients, by reason.";

    // logs
    log_lines_dropped: IntCounter = "access_log_lines_dropped_total",
        "Access-log lines dropped because standard output was too slow.";
}

impl Metrics {
    /// Registers every metric and creates at 0 the series whose labels are all enums. Those of the
    /// file's models follow with each configuration ([`Self::create`]). Fails only when two names
    /// clash, which the unit test below rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self::register(Registry::new())?;
        metrics.build_info.get(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        metrics.config_reload_ok.set(1);
        for surface in Surface::ALL {
            metrics.inflight.get(&SurfaceLabels { surface });
            metrics.client_disconnects.get(&SurfaceLabels { surface });
        }
        for scope in Rate::ALL {
            metrics.rate_limited.get(&RateLabels { scope });
        }
        for outcome in ReloadOutcome::ALL {
            metrics.config_reloads.get(&ReloadLabels { outcome });
        }
        for reason in HandshakeFailure::ALL {
            metrics.tls_handshakes_failed.get(&HandshakeLabels { reason });
        }
        Ok(metrics)
    }

    /// Renders all series in Prometheus' text format, 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(64 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be rendered");
        }
        text
    }

    /// Returns all series as data, for `/status`.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::telemetry::labels::{Surface, SurfaceLabels};

    #[test]
    fn every_name_registers_and_renders() {
        let text = Metrics::new().unwrap().render();
        assert!(text.contains("weir_build_info{version="), "{text}");
        assert!(text.contains("weir_config_reload_ok 1"), "{text}");
        for series in [
            "weir_client_disconnects_total{surface=\"gitlab_chat_agent\"} 0",
            "weir_rate_limited_total{scope=\"tokens\"} 0",
            "weir_config_reloads_total{outcome=\"failed\"} 0",
            "weir_tls_handshakes_failed_total{reason=\"not_tls\"} 0",
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
        for absent in ["weir_shared_limits_up", "weir_tls_certificate_expiry"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }

    #[test]
    fn a_struct_is_the_labels_of_a_series() {
        let metrics = Metrics::new().unwrap();
        let labels = SurfaceLabels { surface: Surface::GitlabPrompts };
        metrics.inflight.get(&labels).inc();
        assert!(metrics.render().contains("weir_inflight{surface=\"gitlab_prompts\"} 1\n"));
        metrics.inflight.remove(&labels);
        assert!(!metrics.render().contains("gitlab_prompts\"} 1"));
    }
}
