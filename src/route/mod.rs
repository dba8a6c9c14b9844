//! Which model answers a request: the rules of precedence, as a list that is evaluated from top to
//! bottom. What a model is, is defined in [`crate::model`].
//!
//! Pure data and functions: no I/O, no clock, no knowledge of HTTP servers or providers' bodies.

mod feature;
mod metadata;
#[expect(clippy::module_inception, reason = "the file that defines `Route`")]
mod route;
mod table;

pub use feature::{Feature, PriorityClass};
pub use metadata::{ModelMetadata, RawModelMetadata, Target};
pub use route::{Route, Rule};
pub use table::{Choice, RequestModels, RouteQuery, Table};
