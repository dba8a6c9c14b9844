//! What the encoders of both vendors' surfaces share: tool calls numbered by a running index of our
//! own, JSON appended to a buffer.

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;

/// Appends a value as JSON. Writing to memory does not fail, nor does serializing the values that
/// encoders have.
pub(super) fn put_json(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out.writer(), value);
}

/// Tool calls by our own running index. Model servers number theirs in different ways: some restart
/// with every call, so a fragment whose id differs from the one known for its number starts a new
/// call.
#[derive(Debug, Default)]
pub(super) struct IndexedCalls {
    pub(super) list: Vec<IndexedCall>,
}

/// One tool call of a response.
#[derive(Debug)]
pub(super) struct IndexedCall {
    /// The model server's number.
    upstream_index: u32,
    pub(super) id: String,
    pub(super) name: String,
    /// The JSON text as received; empty in stream encoders, which do not buffer it.
    pub(super) arguments: String,
    /// Whether any arguments were received.
    pub(super) has_arguments: bool,
    /// Finds the end of the arguments; only stream encoders feed it.
    pub(super) scanner: JsonScanner,
}

/// Finds the end of a JSON object whose text arrives in fragments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JsonScanner {
    depth: u32,
    in_string: bool,
    escaped: bool,
    is_complete: bool,
}

impl JsonScanner {
    /// Scans the next fragment.
    pub(super) fn feed(&mut self, fragment: &str) {
        for byte in fragment.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_complete |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    /// Returns whether the outermost object or array has been closed.
    pub(super) const fn is_complete(self) -> bool {
        self.is_complete
    }
}

impl IndexedCalls {
    /// Returns the index of the call that a fragment belongs to, and whether the fragment starts
    /// it. A call without an id gets one of ours.
    pub(super) fn get_or_insert(
        &mut self,
        upstream_index: u32,
        id: Option<&str>,
        name: Option<&str>,
    ) -> (usize, bool) {
        if let Some(index) = self.find(upstream_index, id) {
            return (index, false);
        }
        let index = self.list.len();
        let id =
            id.filter(|id| !id.is_empty()).map_or_else(|| format!("call_{index}"), str::to_owned);
        let name = name.unwrap_or_default().to_owned();
        self.list.push(IndexedCall {
            upstream_index,
            id,
            name,
            arguments: String::new(),
            has_arguments: false,
            scanner: JsonScanner::default(),
        });
        (index, true)
    }

    /// Returns the index of the call that a fragment belongs to, or `None` if the fragment starts a
    /// new one.
    pub(super) fn find(&self, upstream_index: u32, id: Option<&str>) -> Option<usize> {
        let known = self.list.iter().rposition(|call| call.upstream_index == upstream_index);
        known.filter(|index| id.is_none_or(|id| id.is_empty() || id == self.list[*index].id))
    }
}
