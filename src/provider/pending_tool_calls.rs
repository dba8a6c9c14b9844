//! Calls while their pieces arrive, for streams that speak of content blocks (Bedrock, Anthropic):
//! our own running index, fragments kept as they are, `{}` for a call that had none (providers.md
//! d1.19).

use super::tool_names::ToolNames;
use super::unreadable;
use crate::error::GatewayError;
use crate::generation::Delta;

/// Blocks open at once; providers open one.
const MAX_OPEN: usize = 64;

struct OpenCall {
    block: u64,
    index: u32,
    /// Whether any of its arguments came.
    has_arguments: bool,
}

/// The calls of one answer.
pub(super) struct OpenCalls {
    names: ToolNames,
    open: Vec<OpenCall>,
    next: u32,
}

impl OpenCalls {
    /// `names` are those of the request, to be restored.
    pub(super) const fn new(names: ToolNames) -> Self {
        Self { names, open: Vec::new(), next: 0 }
    }

    /// A block that is a call begins.
    pub(super) fn start(
        &mut self,
        block: u64,
        id: String,
        name: String,
    ) -> Result<Delta, GatewayError> {
        if self.open.len() >= MAX_OPEN {
            return Err(unreadable("the stream", &"too many blocks open at once"));
        }
        let index = self.next;
        self.next = self.next.saturating_add(1);
        self.open.push(OpenCall { block, index, has_arguments: false });
        Ok(Delta::ToolCall {
            index,
            id: Some(id),
            name: Some(self.names.restore(name)),
            arguments: String::new(),
        })
    }

    /// A fragment of a call's arguments; nothing for an empty one, or for a block that is no call.
    pub(super) fn arguments(&mut self, block: u64, fragment: String) -> Option<Delta> {
        let call = self.open.iter_mut().find(|call| call.block == block)?;
        if fragment.is_empty() {
            return None;
        }
        call.has_arguments = true;
        Some(Delta::ToolCall { index: call.index, id: None, name: None, arguments: fragment })
    }

    /// A block ends. A call that had no arguments gets `{}`.
    pub(super) fn stop(&mut self, block: u64) -> Option<Delta> {
        let at = self.open.iter().position(|call| call.block == block)?;
        let call = self.open.swap_remove(at);
        let arguments = "{}".to_owned();
        (!call.has_arguments).then_some(Delta::ToolCall {
            index: call.index,
            id: None,
            name: None,
            arguments,
        })
    }

    /// A whole call.
    pub(super) fn whole(&mut self, id: String, name: String, arguments: Option<&str>) -> Delta {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        let arguments = arguments.unwrap_or("{}").to_owned();
        Delta::ToolCall { index, id: Some(id), name: Some(self.names.restore(name)), arguments }
    }
}
