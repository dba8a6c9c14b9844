//! `[chat]`, and `timeouts.chat_surface`.

use crate::config::toml::diagnostic::Reported;
use crate::config::toml::reader::Reader;
use crate::error::ExpiryAs;
use crate::snapshot::{Chat, ToolUse};

/// Reads the settings of Duo Chat.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Chat, Reported> {
    let tools = reader.keyword(&["chat", "tools"]);
    let expiry_as = reader.keyword(&["timeouts", "chat_surface"]);
    let heartbeat = reader.duration(&["chat", "heartbeat"]);
    Ok(Chat {
        tools: match tools? {
            "native" => ToolUse::Native,
            "react" => ToolUse::React,
            _ => ToolUse::Auto,
        },
        heartbeat: heartbeat?,
        expiry_as: match expiry_as? {
            "answer" => ExpiryAs::Answer,
            _ => ExpiryAs::Event,
        },
    })
}
