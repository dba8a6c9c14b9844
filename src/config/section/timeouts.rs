//! `[timeouts]`, and the `timeouts` of a model or a feature.

use std::time::Duration;

use crate::config::toml::reader::Reader;
use crate::model::TimeoutsPatch;

/// Reads the timeouts of the table at `path`. A wrong one is left out.
pub(crate) fn read(reader: &mut Reader<'_>, path: &[&str]) -> TimeoutsPatch {
    let mut phase = |name| -> Option<Duration> {
        reader.optional_duration(&[path, &[name]].concat()).unwrap_or_default()
    };
    TimeoutsPatch {
        connect: phase("connect"),
        first_byte: phase("first_byte"),
        idle: phase("idle"),
        total: phase("total"),
    }
}
