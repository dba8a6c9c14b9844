//! `Snapshot`: everything a reload may change, as one immutable value behind one `ArcSwap`. A
//! request loads it once and finishes on it, whatever is put in force meanwhile.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use crate::auth::{Policy, RateLimiter, RateLimits, UserTokenIssuer};
use crate::docs;
use crate::error::ExpiryAs;
use crate::prompt::PromptRegistry;
use crate::route::Table;
use crate::upstream::Endpoints;

/// The configuration and state that a request reads.
#[derive(Debug)]
pub struct Snapshot {
    /// The routing table: feature → model.
    pub table: Table,
    /// The prompts for GitLab's requests.
    pub prompts: Arc<PromptRegistry>,
    /// How callers are authenticated.
    pub auth: Policy,
    /// The issuer of users' tokens.
    pub user_tokens: Arc<UserTokenIssuer>,
    /// The rate meters of callers. One set per process.
    pub meters: Arc<RateLimiter>,
    /// The search of GitLab's documentation.
    pub docs: docs::Settings,
    /// Sizes, timeouts and rates of requests.
    pub limits: Limits,
    /// Settings of Duo Chat.
    pub chat: Chat,
    /// The live state (in flight, health) of every endpoint in the file.
    pub endpoints: Endpoints,
    /// `telemetry.log_prompts`: prompts and responses are logged, if GitLab allows it for a
    /// request.
    pub log_prompts: bool,
    /// The number of this configuration, counted from 1.
    pub generation: u64,
}

/// `[limits]`, checked: the parts that a reload may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request body in bytes; a longer one is refused with 413 before it is buffered.
    pub max_body: u64,
    /// The longest time a client may take to send its body.
    pub body_timeout: Duration,
    /// The rates of one caller, unless its key has its own.
    pub rates: RateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 64 << 20,
            body_timeout: Duration::from_secs(60),
            rates: RateLimits::default(),
        }
    }
}

/// `[chat]`, and `chat_surface` of `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chat {
    /// How models call GitLab's tools.
    pub tools: ToolUse,
    /// The interval of keep-alive bytes on streams whose clients skip blank lines.
    pub heartbeat: Duration,
    /// How an expired timeout is reported to the client.
    pub expiry_as: ExpiryAs,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            tools: ToolUse::Auto,
            heartbeat: Duration::from_secs(15),
            expiry_as: ExpiryAs::Event,
        }
    }
}

/// `chat.tools`: how models call tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolUse {
    /// By the model's family; as text when its server rejects function calls.
    #[default]
    Auto,
    /// As function calls.
    Native,
    /// As text in the ReAct format.
    React,
}

/// The configuration in force, shared by all threads.
#[derive(Clone, Debug)]
pub struct Shared(Arc<ArcSwap<Snapshot>>);

impl Shared {
    /// Puts a first snapshot in force.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// Returns the snapshot in force. Called once per request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another snapshot in force; requests under way keep theirs.
    pub fn swap(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}

/// The result of the last reload, for `/status` and the log.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// The time of the reload.
    pub at: SystemTime,
    /// Whether the file on disk is in force.
    pub ok: bool,
    /// The faults of the file, as `weir check` prints them; or what needs a restart.
    pub faults: Vec<String>,
}

/// The last reload, shared between the watcher and the admin listener.
#[derive(Clone, Debug)]
pub struct Reloads(Arc<ArcSwap<LastReload>>);

impl Default for Reloads {
    fn default() -> Self {
        let first = LastReload { at: SystemTime::now(), ok: true, faults: Vec::new() };
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }
}

impl Reloads {
    /// Records a reload.
    pub fn record(&self, reload: LastReload) {
        self.0.store(Arc::new(reload));
    }

    /// Returns the last reload; before the first, the start of the process.
    pub fn last(&self) -> Arc<LastReload> {
        self.0.load_full()
    }
}
