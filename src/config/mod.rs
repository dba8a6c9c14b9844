//! The configuration: a file and the environment → [`Config`], or every fault at once.
//!
//! `raw` keeps the file as a tree that knows its places; `keys` is the list of what may stand in
//! it; `reader` reads typed values out of it; `check`, `models` (with `azure`, `bedrock` and what
//! they have `inherited` from the environment), `families`, `cloud`, `features`, `prompts`, `tls`,
//! `proxy` and `outward` build each module's own settings, so that no module imports this one. A
//! reload may change everything but [`Config::server`].

mod auth;
mod azure;
mod bedrock;
mod check;
mod checked;
mod cloud;
mod docs;
mod entra;
mod environ;
mod families;
mod fault;
mod features;
mod inherited;
mod key;
mod key_paths;
mod keys;
mod keys_models;
mod load;
mod models;
mod outward;
mod prompts;
mod proxy;
mod raw;
mod reader;
mod reference;
mod replicas;
mod resilience;
mod static_keys;
mod suggest;
mod tls;
mod units;
mod user_tokens;
mod watch;

pub use checked::{Config, Origin, Provenance, Setting};
pub use fault::{Excerpt, Fault, Faults, Place, Severity};
pub use load::{Environment, admin_address, authorities, from_str, load, locate, watched};
pub use reference::reference;
pub use suggest::nearest;
pub use units::show_duration;
pub use watch::{Watched, Watcher};

#[cfg(test)]
mod tests;
