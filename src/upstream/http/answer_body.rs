//! The body of a response that is still arriving, with what ends with it: the in-flight count, the
//! model's permit, and the connection's way back to the pool.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::upstream::endpoint::{Endpoint, InFlightGuard};
use crate::upstream::http::connection::{Connection, ExchangeError, poll_body};
use crate::upstream::http::pool::Pool;
use crate::upstream::limit::concurrency::Permit;
use crate::wire::Framing;

/// The body of a response. Read to its end, it returns the connection to the pool; dropped before,
/// it closes the connection.
pub struct AnswerBody {
    connection: Option<Connection>,
    framing: Framing,
    keep_alive: bool,
    in_flight: InFlightGuard,
    /// The model's permit; released with the body.
    permit: Option<Permit>,
    pool: Arc<Pool>,
}

impl AnswerBody {
    pub(crate) const fn new(
        connection: Connection,
        framing: Framing,
        keep_alive: bool,
        in_flight: InFlightGuard,
        pool: Arc<Pool>,
    ) -> Self {
        Self { connection: Some(connection), framing, keep_alive, in_flight, permit: None, pool }
    }

    /// Keeps the request's permit until the body is dropped.
    pub fn hold_permit(&mut self, permit: Option<Permit>) {
        self.permit = permit;
    }

    /// Returns the endpoint that sent the response.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }

    /// Returns whether the body was read to its end, or failed.
    pub const fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// Polls for the next bytes, `None` at the end. After an error there is nothing more.
    pub fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ExchangeError>>> {
        let mut out = BytesMut::new();
        let read = match &mut self.connection {
            None => return Poll::Ready(None),
            Some(_) if self.framing.is_complete() => Ok(()),
            Some(connection) => ready!(poll_body(connection, &mut self.framing, cx, &mut out)),
        };
        if let Err(error) = read {
            self.connection = None;
            return Poll::Ready(Some(Err(error)));
        }
        if self.framing.is_complete() {
            self.release_connection();
        }
        match (out.is_empty(), self.is_over()) {
            (true, true) => Poll::Ready(None),
            _ => Poll::Ready(Some(Ok(out.freeze()))),
        }
    }

    /// Returns the connection to the pool, unless the server sent `Connection: close` or more bytes
    /// than its response, which would be read as the next one.
    fn release_connection(&mut self) {
        if let Some(connection) =
            self.connection.take().filter(|c| self.keep_alive && !c.has_unread_bytes())
        {
            self.pool.put(self.in_flight.endpoint().pool_key, connection);
        }
    }
}
