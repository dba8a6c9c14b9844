//! OpenAI's surface.

pub mod encode;
mod fields;
mod translate_messages;
pub mod translate_request;
