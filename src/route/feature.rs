//! GitLab's features, by the names of its admin screens. Source: contract::gitlab_client §5.1.
//!
//! A table in code rather than a data file: the set is closed, other code names its members, and
//! the compiler finds a misspelling.

use std::time::Duration;

/// GitLab feature that an administrator can assign a model to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Feature(u8);

/// Priority class of requests that wait for a model, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PriorityClass {
    /// A user waits at the cursor.
    Completion,
    /// A user reads the response as it arrives.
    Chat,
    /// Background job, whose result is read later.
    Batch,
}

impl PriorityClass {
    /// Number of classes.
    pub const COUNT: usize = 3;

    /// Returns the number of the class at model servers with a priority queue, as vLLM has: the
    /// lowest is served first.
    pub const fn priority(self) -> u8 {
        self as u8
    }
}

struct Row {
    name: &'static str,
    title: &'static str,
    class: PriorityClass,
    parent: Option<Feature>,
    /// GitLab's own time limit of this call, where it is not the 60–600 s setting.
    total: Option<Duration>,
}

const fn row(
    name: &'static str,
    title: &'static str,
    class: PriorityClass,
    parent: Option<Feature>,
    total: Option<Duration>,
) -> Row {
    Row { name, title, class, parent, total }
}

use PriorityClass::{Batch, Chat, Completion};

const CHAT: Option<Feature> = Some(Feature::DUO_CHAT);
const AGENTS: Option<Feature> = Some(Feature::DUO_AGENT_PLATFORM);
/// Workhorse times out code suggestions after 55 s (contract::gitlab_client §12.1); a response has
/// to precede that.
const CODE: Option<Duration> = Some(Duration::from_secs(50));

const ROWS: &[Row] = &[
    row("code_completions", "Code Completion", Completion, None, CODE),
    row("code_generations", "Code Generation", Chat, None, CODE),
    row("duo_chat", "General Chat", Chat, None, None),
    row("duo_chat_explain_code", "Code Explanation", Chat, CHAT, None),
    row("duo_chat_write_tests", "Test Generation", Chat, CHAT, None),
    row("duo_chat_refactor_code", "Refactor Code", Chat, CHAT, None),
    row("duo_chat_fix_code", "Fix Code", Chat, CHAT, None),
    row("duo_chat_troubleshoot_job", "Root Cause Analysis", Chat, CHAT, None),
    row("duo_chat_explain_vulnerability", "Vulnerability Explanation", Chat, CHAT, None),
    row("duo_chat_summarize_comments", "Discussion Summary", Chat, CHAT, None),
    row("generate_commit_message", "Merge Commit Message Generation", Batch, None, None),
    row("summarize_new_merge_request", "Merge Request Summary", Batch, None, None),
    row("summarize_review", "Code Review Summary", Batch, None, None),
    row("review_merge_request", "Code Review", Batch, None, None),
    row("resolve_vulnerability", "Vulnerability Resolution", Batch, None, None),
    row("glab_ask_git_command", "GitLab Duo for CLI", Chat, None, None),
    row("embeddings_code", "Semantic code search", Batch, None, None),
    row("duo_agent_platform", "All agents, except Agentic Chat", Batch, None, None),
    row("duo_agent_platform_agentic_chat", "Agentic Chat", Chat, AGENTS, None),
];

impl Feature {
    /// Code Completion.
    pub const CODE_COMPLETIONS: Self = Self(0);
    /// Code Generation.
    pub const CODE_GENERATIONS: Self = Self(1);
    /// General Chat, the parent of every `duo_chat_…`.
    pub const DUO_CHAT: Self = Self(2);
    /// Agents, the parent of Agentic Chat.
    pub const DUO_AGENT_PLATFORM: Self = Self(17);
    /// Semantic code search.
    pub const EMBEDDINGS_CODE: Self = Self(16);
    /// Number of features.
    pub const COUNT: usize = ROWS.len();

    /// Iterates over all features, in the order of GitLab's screens.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ROWS.len() as u8).map(Self)
    }

    /// Returns the feature of that key, or `None`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|feature| feature.name() == name)
    }

    /// Returns the key in `[features]`, which is also the `feature` label.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the title on GitLab's screens.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// Returns the feature whose model is used when this one has no line of its own.
    pub fn parent(self) -> Option<Self> {
        self.row().parent
    }

    /// Returns the priority class of its requests.
    pub fn class(self) -> PriorityClass {
        self.row().class
    }

    /// Returns the total time limit that GitLab's own timeouts impose on this feature, if any.
    pub fn total_limit(self) -> Option<Duration> {
        self.row().total
    }

    /// Returns whether another model may answer: vectors of a different model do not match the ones
    /// that GitLab has stored.
    pub fn can_fall_back(self) -> bool {
        self != Self::EMBEDDINGS_CODE
    }

    /// Returns the index in arrays of [`Feature::COUNT`] elements.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    fn row(self) -> &'static Row {
        &ROWS[self.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::{Feature, PriorityClass};

    #[test]
    fn constants_name_their_features() {
        assert_eq!(Feature::CODE_COMPLETIONS.name(), "code_completions");
        assert_eq!(Feature::CODE_GENERATIONS.name(), "code_generations");
        assert_eq!(Feature::DUO_CHAT.name(), "duo_chat");
        assert_eq!(Feature::DUO_AGENT_PLATFORM.name(), "duo_agent_platform");
        assert_eq!(Feature::EMBEDDINGS_CODE.name(), "embeddings_code");
        assert_eq!(
            Feature::parse("duo_chat_fix_code").and_then(Feature::parent),
            Some(Feature::DUO_CHAT)
        );
        assert_eq!(Feature::parse("nothing"), None);
    }

    #[test]
    fn a_request_at_the_cursor_is_first() {
        let class = |name| Feature::parse(name).map(Feature::class);
        assert_eq!(class("code_completions"), Some(PriorityClass::Completion));
        assert_eq!(class("duo_chat_explain_code"), Some(PriorityClass::Chat));
        assert_eq!(class("review_merge_request"), Some(PriorityClass::Batch));
        assert!(
            PriorityClass::Completion < PriorityClass::Chat
                && PriorityClass::Chat < PriorityClass::Batch
        );
        assert_eq!(PriorityClass::Batch as usize + 1, PriorityClass::COUNT);
    }
}
