//! The neutral middle: a request to a model, and a model's response, in the format of no provider.
//!
//! A surface (`api/`) builds a [`Generation`] and encodes [`Delta`]s; a dialect (`provider/`)
//! encodes the `Generation` and decodes to `Delta`s; neither depends on the other. Where the client
//! and the model server use the same dialect, the middle is skipped and bytes pass through
//! (`relay/passthrough.rs`).

mod delta;
mod estimate;
pub(crate) mod filter;
mod request;
mod usage;

pub use delta::{Delta, Encode, StopReason};
pub use estimate::TokenEstimate;
pub use filter::{
    BlankFilter, EchoFilter, FenceFilter, Filter, FilterChain, FilteredEncoder, NewCodeFilter,
    OwnLineFilter, ThinkFilter, UnderscoreFilter, without_thinking,
};
pub use request::{
    CacheTtl, Format, Generation, Image, Message, Part, Role, Sampling, Thinking, Tool, ToolCall,
    ToolChoice,
};
pub use usage::Usage;
