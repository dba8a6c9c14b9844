//! One error type for everything a request can run into.
//!
//! It carries two messages: `public` for the client and `internal` for the operator's log. There is
//! no `Display`, so that the second cannot reach the first by accident (omicron's `MessagePair`).

mod chat_event;
mod kind;
mod respond;

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;

pub use chat_event::{ExpiryAs, chat_error};
pub use kind::{Elsewhere, Kind, Row};
pub use respond::{NDJSON, Shape, in_band, render};

/// One fault in a request body, in the form FastAPI's clients know (`loc`, `msg`, `type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFault {
    /// Where: `["body", "messages", "0", "role"]`; a number is printed as a number.
    pub loc: Vec<Cow<'static, str>>,
    /// What is wrong and what is expected.
    pub msg: String,
    /// A stable name: `missing`, `json_invalid`, `value_error`, `type_error`.
    pub kind: &'static str,
}

impl BodyFault {
    /// A fault at a top-level field of the body.
    pub fn at(field: &'static str, kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: vec!["body".into(), field.into()], msg: msg.into(), kind }
    }

    /// A fault of the body as a whole.
    pub fn body(kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: vec!["body".into()], msg: msg.into(), kind }
    }
}

/// A failed request: what kind, what the client is told, what the operator is told.
#[derive(Debug)]
pub struct GatewayError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    public: Cow<'static, str>,
    internal: Option<String>,
    faults: Vec<BodyFault>,
    limit: Option<Duration>,
    retry_after: Option<HeaderValue>,
    allow: Option<&'static str>,
    upstream_body: Option<bytes::Bytes>,
}

impl GatewayError {
    /// An error with the sentence the client sees.
    pub fn new(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            public: public.into(),
            internal: None,
            faults: Vec::new(),
            limit: None,
            retry_after: None,
            allow: None,
            upstream_body: None,
        }))
    }

    /// A body that does not parse or lacks something: 422 with every fault found.
    pub fn invalid(faults: Vec<BodyFault>) -> Self {
        let public =
            faults.first().map_or_else(|| "Validation error".into(), |fault| fault.msg.clone());
        let mut error = Self::new(Kind::Invalid, public);
        error.0.faults = faults;
        error
    }

    /// One of the four limits expired: A1000. `who` is the model's name.
    pub fn expired(phase: crate::telemetry::labels::Phase, limit: Duration, who: &str) -> Self {
        let seconds = format_seconds(limit);
        let public = format!("A1000: {who} did not answer within {seconds} s ({})", phase.label());
        let mut error = Self::new(Kind::Expired(phase), public);
        error.0.limit = Some(limit);
        error
    }

    /// Names the fields of a wrong body as the client's dialect does: (what was said, what is to be
    /// said).
    #[must_use]
    pub fn with_fields_named(mut self, names: &[(&str, &'static str)]) -> Self {
        for fault in &mut self.0.faults {
            let place =
                fault.loc.get(1).and_then(|said| names.iter().find(|(theirs, _)| theirs == said));
            if let Some((theirs, ours)) = place {
                fault.msg = fault.msg.replace(&format!("`{theirs}`"), &format!("`{ours}`"));
                fault.loc = [Cow::Borrowed("body")]
                    .into_iter()
                    .chain(ours.split('.').map(Cow::Borrowed))
                    .collect();
            }
        }
        if let Some(fault) = self.0.faults.first() {
            self.0.public = fault.msg.clone().into();
        }
        self
    }

    /// Adds what only the operator may read: addresses, causes, upstream bodies.
    #[must_use]
    pub fn internal(mut self, text: impl Into<String>) -> Self {
        self.0.internal = Some(text.into());
        self
    }

    /// Adds to what the operator may read.
    #[must_use]
    pub fn remarked(mut self, text: &str) -> Self {
        let before = self.0.internal.take();
        self.0.internal =
            Some(before.map_or_else(|| text.to_owned(), |before| format!("{before}; {text}")));
        self
    }

    /// Passes a `Retry-After` on.
    #[must_use]
    pub fn retry_after(mut self, value: Option<HeaderValue>) -> Self {
        self.0.retry_after = value;
        self
    }

    /// The `Retry-After` in seconds, if there is one that is no date.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after.as_ref()?.to_str().ok()?.trim().parse().ok()
    }

    /// Names the methods of a path (RFC 9110 §15.5.6).
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Keeps the model server's own JSON error body, for surfaces that speak its dialect.
    #[must_use]
    pub fn upstream_body(mut self, body: bytes::Bytes) -> Self {
        self.0.upstream_body = Some(body);
        self
    }

    /// Takes a secret out that a model server repeated: its own words go, whole.
    #[must_use]
    pub fn withholding(mut self, secret: &str) -> Self {
        let repeats = |text: &[u8]| {
            !secret.is_empty() && memchr::memmem::find(text, secret.as_bytes()).is_some()
        };
        self.0.upstream_body = self.0.upstream_body.take().filter(|body| !repeats(body));
        if repeats(self.0.public.as_bytes()) {
            self.0.public = "The model server refused the request".into();
        }
        if let Some(text) = self.0.internal.take() {
            self.0.internal = Some(if repeats(text.as_bytes()) {
                text.replace(secret, "•••")
            } else {
                text
            });
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The sentence for the client.
    pub fn public(&self) -> &str {
        &self.0.public
    }

    /// The sentence for the log, if there is more to say than `public`.
    pub fn operator(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }
}

/// Seconds without a needless fraction: `60`, `2.5`.
fn format_seconds(limit: Duration) -> String {
    let millis = limit.as_millis();
    if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{}", limit.as_secs_f64())
    }
}
