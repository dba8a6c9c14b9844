//! What operators see: one [`Record`] per request, read by the metrics and the access log.
//!
//! Never recorded at any level: credentials, request bodies, query strings; and prompts and
//! responses, unless the operator's file and the request's GitLab both allow it (`prompt_log`).
//! Standard output carries the access log, one JSON object a line; standard error the operator's
//! log.

mod access_log;
mod family;
pub mod labels;
mod log_writer;
mod metrics;
mod operator_log;
mod prompt_log;
mod record;
mod redact;
mod series;
mod trace;
mod worker;

pub use access_log::{AccessLog, rfc3339};
pub use family::{Counters, Family, Gauges, Histograms, LabelValue, Labels};
pub use log_writer::LogWriter;
pub use metrics::Metrics;
pub use operator_log::{Format, Level, OperatorLog};
pub use prompt_log::PromptLog;
pub use record::{FailedModel, Meter, QueueTime, Record, RequestInfo, Sink};
pub use series::{InitialSeries, RouteKey};
pub use trace::{TRACEPARENT, TraceIds, X_REQUEST_ID};
pub use worker::WorkerTelemetry;
