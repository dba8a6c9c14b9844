//! What operators see: one [`Record`] per request, read by the metrics and the access log.
//!
//! Never recorded at any level: credentials, request bodies, query strings; and prompts and
//! answers, unless the operator's file and the request's GitLab both allow it (`words`). Standard
//! output carries the access log, one JSON object a line; standard error the operator's log.

mod access_log;
pub mod labels;
mod log_writer;
mod metrics;
mod operator_log;
mod record;
mod redact;
mod trace;
mod words;
mod worker;

pub use access_log::{AccessLog, rfc3339};
pub use log_writer::LogWriter;
pub use metrics::Metrics;
pub use operator_log::{Format, Level, OperatorLog};
pub use record::{Earlier, Facts, Meter, QueueTime, Record, Sink};
pub use trace::{TRACEPARENT, TraceIds, X_REQUEST_ID};
pub use words::Words;
pub use worker::WorkerTelemetry;
