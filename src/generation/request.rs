//! `Generation`: one request to a model, whichever surface it came from.

use serde_json::Value;

/// Request to a model, independent of surface and provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// Text that the model continues, without a chat template around it: then there are no messages
    /// and no tools. Only for servers with OpenAI's `/completions`; the other dialects refuse it.
    pub raw_prompt: Option<String>,
    /// Messages of the conversation, oldest first, system messages included.
    pub messages: Vec<Message>,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Permission for the provider to cache the functions for the next request (see
    /// [`Part::CachePoint`]).
    pub tools_cache_ttl: Option<CacheTtl>,
    /// Whether the model must call one of them.
    pub tool_choice: ToolChoice,
    /// Whether the model may call several at once. `None` leaves the choice to the model server.
    pub parallel_tool_calls: Option<bool>,
    /// Format of the response's text.
    pub format: Format,
    /// Reasoning effort, as a value of the provider's (`low`, `medium`, `high`, …).
    pub effort: Option<String>,
    /// Settings of thinking before the response. `None` leaves them to the model server.
    pub thinking: Option<Thinking>,
    /// Length, randomness and stop sequences.
    pub sampling: Sampling,
    /// Whether the response is streamed.
    pub stream: bool,
}

/// Whether the model must call a function, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The model must not call any.
    None,
    /// The model must call one, whichever.
    Required,
    /// The model must call the one of this name.
    Named(String),
}

/// Settings of a model's thinking before its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// Maximum tokens of thinking; `None` lets the model decide whether and how long.
    pub budget: Option<u32>,
    /// How much of the thinking is returned, as a value of the provider's (`summarized`,
    /// `omitted`).
    pub display: Option<String>,
}

/// Lifetime of a cache entry, as a value of the provider's (`5m`, `1h`); `None` is its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheTtl(pub Option<String>);

/// Format of the response's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that conforms to a schema.
    JsonSchema {
        /// Name of the schema.
        name: String,
        /// Purpose of the schema, for the model.
        description: Option<String>,
        /// The JSON Schema.
        schema: Value,
        /// Whether the model server must enforce it.
        strict: Option<bool>,
    },
}

/// Author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the operator or the client program.
    System,
    /// The user, or a program that acts for one.
    User,
    /// The model.
    Assistant,
    /// Result of a call that the model made.
    Tool,
}

impl Role {
    /// Returns the name in OpenAI-style dialects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// Returns the role of that name, or `None`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" => Some(Self::Assistant),
            "tool" => Some(Self::Tool),
            _ => None,
        }
    }
}

/// Message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Author of the message.
    pub role: Role,
    /// Content of the message, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// Creates a message of plain text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }
}

/// Part of a message's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// Image.
    Image(Image),
    /// The model's thinking in an earlier turn.
    Reasoning {
        /// Text of the thinking.
        text: String,
        /// The provider's signature over it; Anthropic's models do not accept thinking without one.
        signature: Option<String>,
    },
    /// Permission for the provider to cache everything up to this point for the next request.
    /// Providers that cache on their own, or not at all, ignore it.
    CachePoint {
        /// Lifetime, as a value of the provider's (`5m`, `1h`).
        ttl: Option<String>,
    },
    /// Function call by the model.
    ToolCall(ToolCall),
    /// Result of a function call.
    ToolResult {
        /// Id of the call.
        id: String,
        /// Output of the function.
        content: String,
        /// Whether the function failed, where the client's dialect has a field for that.
        is_error: bool,
    },
}

/// Image in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// The image itself.
    Inline {
        /// Media type: `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
        media_type: String,
        /// Content in base64, standard alphabet, as the client sent it.
        base64: String,
    },
    /// URL from which the model server may fetch the image. Weir does not fetch it: it would be an
    /// open proxy into the operator's network.
    Url(String),
}

/// Function call by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Id of the call, assigned by the provider.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Arguments as JSON text; `{}` when the model sent none.
    pub arguments: String,
}

/// Function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Name of the function.
    pub name: String,
    /// Description for the model.
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
    /// Whether the model server must enforce the schema.
    pub strict: Option<bool>,
}

/// Length, randomness and stop sequences. `None` leaves the choice to the model server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Maximum tokens of the response.
    pub max_tokens: Option<u32>,
    /// Temperature; 0 is greedy.
    pub temperature: Option<f64>,
    /// Probability mass of nucleus sampling.
    pub top_p: Option<f64>,
    /// Stop sequences.
    pub stop: Vec<String>,
    /// Seed, for servers with reproducible sampling.
    pub seed: Option<i64>,
}
