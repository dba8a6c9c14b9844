//! The neutral middle: what a request asks of a model, and what a model says, in no provider's
//! words.
//!
//! A surface (`api/`) builds a [`Generation`] and encodes [`Delta`]s; a dialect (`provider/`)
//! encodes the `Generation` and decodes to `Delta`s; neither names the other. Where the client's
//! dialect is the model server's dialect the middle is skipped and bytes pass
//! (`relay/passthrough.rs`).

mod delta;
mod estimate;
pub(crate) mod filter;
mod request;
mod usage;

pub use delta::{Delta, Encode, StopReason};
pub use estimate::TokenEstimate;
pub use filter::{
    Blank, Echo, Fences, Filter, Filtered, Filters, NewCode, OwnLine, Think, Underscores,
    without_thinking,
};
pub use request::{
    CacheFor, Format, Generation, Image, Message, Part, Role, Sampling, Thinking, Tool, ToolCall,
    ToolChoice,
};
pub use usage::Usage;
