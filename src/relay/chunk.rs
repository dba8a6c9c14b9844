//! `FeedResult`: what a chunk of the model server becomes.

use bytes::Bytes;

use crate::error::GatewayError;

/// Bytes for the client, and the failure that ends the answer after them, if any.
pub(super) type FeedResult = (Bytes, Result<(), GatewayError>);
