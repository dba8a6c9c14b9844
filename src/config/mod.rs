//! The configuration: a file and the environment → [`Config`], or every fault at once.
//!
//! `raw` keeps the file as a tree that knows its places; `keys` is the list of what may stand in
//! it; `reader` reads typed values out of it; `check`, `models` (with `azure`, `bedrock` and what
//! they have `inherited` from the environment), `families`, `cloud`, `features`, `prompts`, `tls`,
//! `proxy` and `outward` build each module's own settings, so that no module imports this one. A
//! reload may change everything but [`Config::server`].

mod check;
#[expect(clippy::module_inception, reason = "the file that defines `Config`")]
mod config;
mod load;
mod reference;
mod section;
mod toml;
mod watch;

pub use self::config::{Config, Origin, Provenance, Setting};
pub use self::toml::diagnostic::{Excerpt, Fault, Faults, Place, Severity};
pub use self::toml::show_duration;
pub use self::toml::suggest::nearest;
pub use load::{Environment, admin_address, authorities, from_str, load, locate, watched};
pub use reference::reference;
pub use watch::{Watched, Watcher};

#[cfg(test)]
mod tests;
