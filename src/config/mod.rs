//! The configuration: a file and the environment → [`Config`], or every fault at once.
//!
//! `toml` parses the file into a tree with the location of each value, holds the table of keys, and
//! reads typed values. `section` has one file for each section: it reads the section's keys and
//! builds the settings of the module that they are for, so that no module imports this one. `check`
//! puts the sections together, `load` is the way in, `watch` notices changes. A reload may change
//! everything but [`Config::server`].

mod check;
#[expect(clippy::module_inception, reason = "the file that defines `Config`")]
mod config;
mod load;
mod reference;
mod section;
mod toml;
mod watch;

pub use self::config::Config;
pub use self::toml::diagnostic::{Excerpt, Fault, Faults, Location, Severity};
pub use self::toml::environment::Environment;
pub use self::toml::provenance::{Origin, Provenance, Setting};
pub use self::toml::suggest::nearest;
pub use self::toml::units::show_duration;
pub use load::{admin_address, authorities, from_str, load, locate, watched};
pub use reference::reference;
pub use watch::{Watched, Watcher};

#[cfg(test)]
mod tests;
