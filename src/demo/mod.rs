//! `weir demo`: Weir with no file and no network, in front of a small model server in the same
//! process. This module has the model server, the configuration and the texts; `command` runs them.

mod bedrock;
pub mod model;
mod routes;
mod shapes;
mod speech;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

/// The demo's configuration file, with placeholders for the addresses ([`config`]).
pub const CONFIG: &str = include_str!("demo.toml");

/// Returns the demo's file with these addresses: Weir's own, the admin listener's, the model
/// server's.
pub fn config(public: SocketAddr, admin: SocketAddr, model: SocketAddr) -> String {
    CONFIG
        .replace("@LISTEN@", &public.to_string())
        .replace("@ADMIN@", &admin.to_string())
        .replace("@MODEL@", &model.to_string())
}

/// Returns the introduction for a newcomer: what is running, and commands to paste. It fits one
/// terminal screen.
pub fn banner(public: SocketAddr, admin: SocketAddr) -> String {
    include_str!("banner.txt")
        .replace("@LISTEN@", &public.to_string())
        .replace("@ADMIN@", &admin.to_string())
}
