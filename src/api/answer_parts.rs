//! What encoders of every surface need: calls by a running index of our own, JSON appended to a
//! buffer.

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;

/// Appends JSON. Writing to memory does not fail, and neither do the values written here.
pub(super) fn put(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out.writer(), value);
}

/// Calls by our own running index. Model servers number theirs as they like: some start anew with
/// every call, so a piece with another id than its number has belongs to a new call.
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
    pub(super) progress: Progress,
}

/// How far a JSON object has come whose text arrives in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    depth: u32,
    in_string: bool,
    escaped: bool,
    ended: bool,
}

impl Progress {
    /// Goes on with a piece.
    pub(super) fn read(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    /// Whether all of it is there.
    pub(super) const fn has_ended(self) -> bool {
        self.ended
    }
}

impl Calls {
    /// The place of the call that a piece belongs to, and whether this piece begins it.
    pub(super) fn place(
        &mut self,
        theirs: u32,
        id: Option<&str>,
        name: Option<&str>,
    ) -> (usize, bool) {
        if let Some(at) = self.find(theirs, id) {
            return (at, false);
        }
        let at = self.0.len();
        let id = id.filter(|id| !id.is_empty()).map_or_else(|| format!("call_{at}"), str::to_owned);
        let name = name.unwrap_or_default().to_owned();
        self.0.push(Call {
            theirs,
            id,
            name,
            arguments: String::new(),
            has_arguments: false,
            progress: Progress::default(),
        });
        (at, true)
    }

    /// The place of the call that a piece belongs to, unless it begins one.
    pub(super) fn find(&self, theirs: u32, id: Option<&str>) -> Option<usize> {
        let known = self.0.iter().rposition(|call| call.theirs == theirs);
        known.filter(|at| id.is_none_or(|id| id.is_empty() || id == self.0[*at].id))
    }
}
