//! One HTTP/1.1 exchange with a model server: the connection, the pool of idle ones, the response's
//! body, and the timers that bound the exchange.

pub(super) mod answer_body;
pub(super) mod connection;
pub(super) mod pool;
pub(super) mod timers;
