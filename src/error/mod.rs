//! One error type for everything that can fail in a request.
//!
//! It carries two messages: `public` for the client and `internal` for the operator's log. There is
//! no `Display`, so that the second cannot reach the client by accident (omicron's `MessagePair`).

mod chat_event;
mod kind;
mod outcome;
mod respond;

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;

pub use chat_event::{ExpiryAs, chat_error};
pub use kind::{Kind, RetryScope, Row};
pub use outcome::{Outcome, Phase};
pub use respond::{NDJSON, Shape, in_band, render};

/// One fault in a request body, in the form that FastAPI's clients parse (`loc`, `msg`, `type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFault {
    /// The path of the field: `["body", "messages", "0", "role"]`; a number is printed as a number.
    pub loc: Vec<Cow<'static, str>>,
    /// What was found and what is expected.
    pub msg: String,
    /// A stable name: `missing`, `json_invalid`, `value_error`, `type_error`.
    pub kind: &'static str,
}

impl BodyFault {
    /// Returns a fault at a top-level field of the body.
    pub fn at(field: &'static str, kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: vec!["body".into(), field.into()], msg: msg.into(), kind }
    }

    /// Returns a fault of the body as a whole.
    pub fn body(kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: vec!["body".into()], msg: msg.into(), kind }
    }
}

/// The failure of a request: its kind, the message for the client and the message for the operator.
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
    /// Returns an error with this message for the client.
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

    /// Returns the error of a body that does not parse or lacks a field: 422 with every fault found.
    pub fn invalid(faults: Vec<BodyFault>) -> Self {
        let public =
            faults.first().map_or_else(|| "Validation error".into(), |fault| fault.msg.clone());
        let mut error = Self::new(Kind::Invalid, public);
        error.0.faults = faults;
        error
    }

    /// Returns the error of an expired timeout: A1000. `model` is the model's name in the file.
    pub fn expired(phase: Phase, limit: Duration, model: &str) -> Self {
        let seconds = format_seconds(limit);
        let public =
            format!("A1000: {model} did not answer within {seconds} s ({})", phase.label());
        let mut error = Self::new(Kind::Expired(phase), public);
        error.0.limit = Some(limit);
        error
    }

    /// Renames the fields in the faults of a body to those of the client's dialect: (the name in
    /// the fault, the client's name).
    #[must_use]
    pub fn with_fields_named(mut self, names: &[(&str, &'static str)]) -> Self {
        for fault in &mut self.0.faults {
            let renamed =
                fault.loc.get(1).and_then(|field| names.iter().find(|(from, _)| from == field));
            if let Some((from, to)) = renamed {
                fault.msg = fault.msg.replace(&format!("`{from}`"), &format!("`{to}`"));
                fault.loc = [Cow::Borrowed("body")]
                    .into_iter()
                    .chain(to.split('.').map(Cow::Borrowed))
                    .collect();
            }
        }
        if let Some(fault) = self.0.faults.first() {
            self.0.public = fault.msg.clone().into();
        }
        self
    }

    /// Sets the message that only the operator may read: addresses, causes, upstream bodies.
    #[must_use]
    pub fn internal(mut self, text: impl Into<String>) -> Self {
        self.0.internal = Some(text.into());
        self
    }

    /// Appends to the operator's message.
    #[must_use]
    pub fn remarked(mut self, text: &str) -> Self {
        let before = self.0.internal.take();
        self.0.internal =
            Some(before.map_or_else(|| text.to_owned(), |before| format!("{before}; {text}")));
        self
    }

    /// Sets the `Retry-After` of the response.
    #[must_use]
    pub fn retry_after(mut self, value: Option<HeaderValue>) -> Self {
        self.0.retry_after = value;
        self
    }

    /// Returns the `Retry-After` in seconds, or `None` when there is none or it is a date.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after.as_ref()?.to_str().ok()?.trim().parse().ok()
    }

    /// Sets the `Allow` header: the methods of the path (RFC 9110 §15.5.6).
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Keeps the model server's own JSON error body, for surfaces of the same dialect.
    #[must_use]
    pub fn upstream_body(mut self, body: bytes::Bytes) -> Self {
        self.0.upstream_body = Some(body);
        self
    }

    /// Removes a secret that a model server repeated: its error body and message are dropped
    /// whole, the operator's message is masked.
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

    /// Returns the kind of failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the message for the client.
    pub fn public(&self) -> &str {
        &self.0.public
    }

    /// Returns the message for the operator's log, or `None` when `public` is all there is.
    pub fn operator(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }
}

/// The message that GitLab itself shows for A1000.
const A1000_MESSAGE: &str = "I'm sorry, I couldn't respond in time. Please try again.";

/// Returns the error as plain text for the user of a surface without JSON.
fn text(error: &GatewayError) -> String {
    match error.kind() {
        Kind::Expired(_) => format!("{A1000_MESSAGE} (A1000)"),
        _ => error.public().to_owned(),
    }
}

/// Formats seconds without a needless fraction: `60`, `2.5`.
fn format_seconds(limit: Duration) -> String {
    let millis = limit.as_millis();
    if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{}", limit.as_secs_f64())
    }
}
