//! `Generation`: one request to a model, whichever surface it came from.

use serde_json::Value;

/// What a model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// A text to go on with as it stands, no chat template around it: then there are no messages
    /// and no tools. Only for servers that have OpenAI's `/completions`; the other dialects refuse
    /// it.
    pub raw: Option<String>,
    /// The conversation, oldest first; system messages are messages.
    pub messages: Vec<Message>,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// The provider may keep the functions for the next request (see [`Part::CachePoint`]).
    pub tools_cached: Option<CacheFor>,
    /// Whether it must call one of them.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at once. `None` leaves the choice to the model server.
    pub parallel_tools: Option<bool>,
    /// What the answer's text has to look like.
    pub format: Format,
    /// How hard a reasoning model is to think, in the words of its provider (`low`, `medium`,
    /// `high`, …).
    pub effort: Option<String>,
    /// Whether the model is asked to think before it answers, and how long. `None` leaves it to the
    /// model server.
    pub thinking: Option<Thinking>,
    /// Length, randomness and stops.
    pub sampling: Sampling,
    /// Whether the answer is wanted piece by piece.
    pub stream: bool,
}

/// Whether the model must call a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// One of them, whichever.
    Required,
    /// The one of this name.
    Named(String),
}

/// How a model is to think before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// At most this many tokens of it; `None` lets the model decide whether and how long.
    pub budget: Option<u32>,
    /// How much of it is shown, in the provider's words (`summarized`, `omitted`).
    pub display: Option<String>,
}

/// For how long something is kept, in the provider's words (`5m`, `1h`); `None` is its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheFor(pub Option<String>);

/// What the answer's text has to look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Free.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema.
        schema: Value,
        /// Whether the model server must enforce it.
        strict: Option<bool>,
    },
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The person, or the program acting for one.
    User,
    /// The model.
    Assistant,
    /// The result of a call the model made.
    Tool,
}

impl Role {
    /// The name OpenAI-style dialects use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role of that name.
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

/// One turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A turn of plain text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }
}

/// One piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Words.
    Text(String),
    /// A picture.
    Image(Image),
    /// What the model thought in an earlier turn.
    Reasoning {
        /// The thinking.
        text: String,
        /// The provider's signature over it; without one Anthropic's models take no thinking back.
        signature: Option<String>,
    },
    /// The provider may keep what it has read up to here for the next request. Providers that cache
    /// by themselves, or not at all, need not be told.
    CachePoint {
        /// For how long, in the provider's words (`5m`, `1h`).
        ttl: Option<String>,
    },
    /// A call the model made.
    ToolCall(ToolCall),
    /// The answer to the call of that id.
    ToolResult {
        /// The call's id.
        id: String,
        /// What the function said.
        content: String,
        /// Whether it failed, where the client has a word for that.
        is_error: bool,
    },
}

/// A picture in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Its bytes.
    Inline {
        /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
        media_type: String,
        /// Base64, standard alphabet, as the client sent it.
        base64: String,
    },
    /// Where the model server may fetch it. Weir does not: it would be an open proxy into the
    /// operator's network.
    Url(String),
}

/// A function call by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's id of this call.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// JSON text; `{}` when the model sent none.
    pub arguments: String,
}

/// A function the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// Whether the model server must enforce the schema.
    pub strict: Option<bool>,
}

/// Length, randomness and stops. `None` leaves the choice to the model server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// At most this many tokens of answer.
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// For servers that repeat themselves on request.
    pub seed: Option<i64>,
}
