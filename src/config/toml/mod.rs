//! The file and the environment as they were written: a tree with the location of each value, the
//! table of keys, typed readers, diagnostics.

pub(super) mod diagnostic;
pub(super) mod document;
pub(super) mod environment;
pub(super) mod key;
pub(super) mod key_paths;
pub(super) mod keys;
pub(super) mod model_keys;
pub(super) mod provenance;
pub(super) mod reader;
pub(super) mod suggest;
pub(super) mod units;
pub(super) mod values;
pub(super) mod variables;
