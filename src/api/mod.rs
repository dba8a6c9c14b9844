//! Surfaces.

pub mod openai;
