//! How a server is reached: name resolution, TCP, an outbound proxy's tunnel, TLS and certificates.

pub(super) mod certificate;
pub(super) mod connect;
pub(super) mod egress;
pub(super) mod proxy;
pub(super) mod stream;
pub(super) mod tls;
