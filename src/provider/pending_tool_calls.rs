//! Tool calls whose fragments are still arriving, for streams of content blocks (Bedrock,
//! Anthropic): calls are numbered here, fragments pass unchanged, and a call without arguments gets
//! `{}` (contract::providers §d1.19).

use super::tool_names::ToolNames;
use super::unreadable_response;
use crate::error::GatewayError;
use crate::generation::Delta;

/// Maximum number of blocks that are open at a time; providers open one.
const MAX_OPEN: usize = 64;

struct PendingToolCall {
    block: u64,
    index: u32,
    /// Whether any fragment of its arguments has arrived.
    has_arguments: bool,
}

/// Tool calls of one response.
pub(super) struct PendingToolCalls {
    names: ToolNames,
    open: Vec<PendingToolCall>,
    next: u32,
}

impl PendingToolCalls {
    /// Creates an empty set. `names` are the request's function names, which are restored.
    pub(super) const fn new(names: ToolNames) -> Self {
        Self { names, open: Vec::new(), next: 0 }
    }

    /// Starts a block that is a call. Fails when too many blocks are open.
    pub(super) fn start(
        &mut self,
        block: u64,
        id: String,
        name: String,
    ) -> Result<Delta, GatewayError> {
        if self.open.len() >= MAX_OPEN {
            return Err(unreadable_response("the stream", &"too many blocks open at once"));
        }
        let index = self.next;
        self.next = self.next.saturating_add(1);
        self.open.push(PendingToolCall { block, index, has_arguments: false });
        Ok(Delta::ToolCall {
            index,
            id: Some(id),
            name: Some(self.names.restore(name)),
            arguments: String::new(),
        })
    }

    /// Adds a fragment of a call's arguments. Returns `None` for an empty one, and for a block that
    /// is not a call.
    pub(super) fn push_arguments(&mut self, block: u64, fragment: String) -> Option<Delta> {
        let call = self.open.iter_mut().find(|call| call.block == block)?;
        if fragment.is_empty() {
            return None;
        }
        call.has_arguments = true;
        Some(Delta::ToolCall { index: call.index, id: None, name: None, arguments: fragment })
    }

    /// Ends a block. Returns the arguments `{}` for a call that had none, otherwise `None`.
    pub(super) fn stop(&mut self, block: u64) -> Option<Delta> {
        let index = self.open.iter().position(|call| call.block == block)?;
        let call = self.open.swap_remove(index);
        let arguments = "{}".to_owned();
        (!call.has_arguments).then_some(Delta::ToolCall {
            index: call.index,
            id: None,
            name: None,
            arguments,
        })
    }

    /// Returns the delta of a complete call.
    pub(super) fn complete(&mut self, id: String, name: String, arguments: Option<&str>) -> Delta {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        let arguments = arguments.unwrap_or("{}").to_owned();
        Delta::ToolCall { index, id: Some(id), name: Some(self.names.restore(name)), arguments }
    }
}
