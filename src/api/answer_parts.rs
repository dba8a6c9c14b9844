//! What encoders of every surface need: calls by a running index of our own, JSON appended to a buffer.

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;

/// Appends JSON. Writing to memory does not fail, and neither do the values written here.
pub(super) fn put(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out.writer(), value);
}

/// Calls by our own running index. Model servers number theirs as they like: some start anew with every
/// call, so a piece with another id than its number has belongs to a new call.
#[derive(Debug, Default)]
pub(super) struct Calls(pub(super) Vec<Call>);

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    theirs: u32,
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text as it came; empty in a stream, where it is not kept.
    pub(super) arguments: String,
    /// Whether any arguments came.
    pub(super) has_arguments: bool,
}

impl Calls {
    /// The place of the call that a piece belongs to, and whether this piece begins it.
    pub(super) fn place(&mut self, theirs: u32, id: Option<&str>, name: Option<&str>) -> (usize, bool) {
        let known = self.0.iter().rposition(|call| call.theirs == theirs);
        if let Some(at) = known.filter(|at| id.is_none_or(|id| id.is_empty() || id == self.0[*at].id)) {
            return (at, false);
        }
        let at = self.0.len();
        let id = id.filter(|id| !id.is_empty()).map_or_else(|| format!("call_{at}"), str::to_owned);
        let name = name.unwrap_or_default().to_owned();
        self.0.push(Call { theirs, id, name, arguments: String::new(), has_arguments: false });
        (at, true)
    }
}
