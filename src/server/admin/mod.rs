//! The admin listener: `/metrics`, `/live`, `/ready` and `/status`, never on the public address. It
//! runs on an ordinary runtime apart from the workers, so that a scrape takes no time of the data
//! path.

mod numbers;
mod status;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
};
use http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::side_listener::{self, ListenerLimits};
use crate::snapshot::{Reloads, Shared};
use crate::telemetry::Metrics;

const LIMITS: ListenerLimits =
    ListenerLimits { connections: 64, lifetime: Duration::from_secs(300) };
const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PAGE: &str = include_str!("status.html");

/// The admin listener's handler, with the state that it shows.
pub struct Admin {
    metrics: Arc<Metrics>,
    shared: Shared,
    reloads: Reloads,
    draining: Arc<AtomicBool>,
    started: Instant,
}

impl Admin {
    /// Creates the handler; uptime is counted from here. `draining` is set on SIGTERM.
    pub fn new(
        metrics: Arc<Metrics>,
        shared: Shared,
        reloads: Reloads,
        draining: Arc<AtomicBool>,
    ) -> Self {
        Self { metrics, shared, reloads, draining, started: Instant::now() }
    }

    /// Serves until `stop`, which is set after the drain: while draining, `/ready` must return 503.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let admin = Arc::new(self);
        side_listener::serve(listener, LIMITS, stop, move |request| {
            let response = admin.respond(&request);
            async { response }
        })
        .await;
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let draining = self.draining.load(Ordering::Relaxed);
        match request.uri().path() {
            "/metrics" => response(StatusCode::OK, EXPOSITION, self.metrics.render()),
            "/live" => response(StatusCode::OK, TEXT, "ok\n"),
            "/ready" if draining => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
            "/ready" => response(StatusCode::OK, TEXT, "ready\n"),
            "/status" if prefers_html(request.headers()) => page(),
            "/status" => self.status(draining),
            _ => response(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; this listener serves /metrics /live /ready /status\n",
            ),
        }
    }

    fn status(&self, draining: bool) -> Response<Full<Bytes>> {
        let families = self.metrics.gather();
        let process = status::Process { uptime: self.started.elapsed(), draining };
        let (snapshot, reload) = (self.shared.load(), self.reloads.last());
        let status = status::of(&snapshot, &reload, &families, process);
        match serde_json::to_vec(&status) {
            Ok(json) => {
                let mut response = response(StatusCode::OK, "application/json", json);
                response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
                response
            }
            Err(error) => {
                tracing::error!(%error, "/status could not be serialized");
                response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "see Weir's log\n")
            }
        }
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns the page. It contains no data: its script polls `/status` as JSON.
fn page() -> Response<Full<Bytes>> {
    let mut response = response(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    if let Some(policy) = &*POLICY {
        headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

/// The page's content security policy: only its own script runs, identified by its hash, and it may
/// connect only to this listener.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = base64(ring::digest::digest(&ring::digest::SHA256, script().as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

/// Returns the text between the page's script tags, which is what a browser hashes.
fn script() -> &'static str {
    let from = PAGE.find("<script>").map_or(0, |tag| tag + "<script>".len());
    let to = PAGE.find("</script>").unwrap_or(PAGE.len());
    PAGE.get(from..to).unwrap_or_default()
}

/// Encodes bytes in base64 (RFC 4648 §4). One hash at start is not worth a dependency.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| {
            bits << 8 | u32::from(group.get(i).copied().unwrap_or_default())
        });
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Returns whether `Accept` gives `text/html` more weight than JSON (RFC 9110 §12.5.1). `*/*` and
/// no header at all, which scripts send, prefer neither: JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let ranges = || {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|v| v.split(','))
    };
    let weight = |names: [&str; 3]| {
        // the most specific range in the header decides
        names
            .into_iter()
            .find_map(|name| ranges().find_map(|range| weight_of(range, name)))
            .unwrap_or(0.0)
    };
    weight(["text/html", "text/*", "*/*"]) > weight(["application/json", "application/*", "*/*"])
}

/// Returns the `q` of a media range; `None` if it is not the named one.
fn weight_of(range: &str, name: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(name) {
        return None;
    }
    let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
}
