//! Whether a replica may be sent requests: the circuit breaker, which judges by requests, and the
//! health checker, which probes.

pub(super) mod breaker;
pub(super) mod checker;
