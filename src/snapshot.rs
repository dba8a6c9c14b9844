//! `Snapshot`: everything a reload may change, as one immutable value behind one `ArcSwap`. A
//! request loads it once and finishes on it, whatever is swapped in meanwhile.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use crate::auth::{Meters, Policy, Rates, UserTokens};
use crate::docs;
use crate::error::ExpiryAs;
use crate::prompt::Registry;
use crate::route::Table;
use crate::upstream::Endpoints;

/// What a request may read.
#[derive(Debug)]
pub struct Snapshot {
    /// Feature → model.
    pub table: Table,
    /// What models are told for each of GitLab's requests.
    pub prompts: Arc<Registry>,
    /// Who may call.
    pub auth: Policy,
    /// What users' tokens are issued with.
    pub user_tokens: Arc<UserTokens>,
    /// How much callers have used of what they may; the process's own.
    pub meters: Arc<Meters>,
    /// GitLab's documentation.
    pub docs: docs::Settings,
    /// Sizes and waits.
    pub limits: Limits,
    /// How Duo Chat is answered.
    pub chat: Chat,
    /// The live state (in flight, health) of every endpoint in the file.
    pub endpoints: Endpoints,
    /// `telemetry.log_prompts`: what was said may be logged where GitLab allows it, too.
    pub log_prompts: bool,
    /// Counts up with every swap.
    pub generation: u64,
}

/// `[limits]`, checked: the parts that a reload may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A longer request body is 413 before it is buffered. Bytes.
    pub max_body: u64,
    /// A client that takes longer over its body is let go.
    pub body_timeout: Duration,
    /// What one caller may ask for, unless its key says otherwise.
    pub rates: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_body: 64 << 20, body_timeout: Duration::from_secs(60), rates: Rates::default() }
    }
}

/// `[chat]`, and `chat_surface` of `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chat {
    /// How models call GitLab's tools.
    pub tools: ToolUse,
    /// The longest silence of a stream whose clients skip blank lines.
    pub heartbeat: Duration,
    /// How an expired limit is told.
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

/// `chat.tools`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolUse {
    /// By the model's family; as text when its server refuses functions.
    #[default]
    Auto,
    /// As functions.
    Native,
    /// As text.
    React,
}

/// The one place the running configuration is read from.
#[derive(Clone, Debug)]
pub struct Shared(Arc<ArcSwap<Snapshot>>);

impl Shared {
    /// Starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot in force. Once per request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another one in force; requests under way keep theirs.
    pub fn swap(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}

/// What became of the last reload, for `/status` and the log.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it was tried.
    pub at: SystemTime,
    /// Whether what is on disk is in force.
    pub ok: bool,
    /// What was wrong with it, as `weir check` prints it; and what needs a restart.
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
    /// Notes a reload.
    pub fn note(&self, reload: LastReload) {
        self.0.store(Arc::new(reload));
    }

    /// The last one.
    pub fn last(&self) -> Arc<LastReload> {
        self.0.load_full()
    }
}
