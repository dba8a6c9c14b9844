//! GitLab's features, by the names of its admin screens. Source: gitlab-client.md §5.1.
//!
//! A table in code rather than a data file: the set is closed, other code names its members, and the
//! compiler then finds a misspelling.

use std::time::Duration;

/// A feature that an administrator of GitLab can give a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Feature(u8);

struct Row {
    name: &'static str,
    title: &'static str,
    parent: Option<Feature>,
    /// GitLab's own limit for this call where it is not the 60–600 s setting.
    total: Option<Duration>,
}

const fn row(name: &'static str, title: &'static str, parent: Option<Feature>, total: Option<Duration>) -> Row {
    Row { name, title, parent, total }
}

const CHAT: Option<Feature> = Some(Feature::DUO_CHAT);
const AGENTS: Option<Feature> = Some(Feature::DUO_AGENT_PLATFORM);
/// Workhorse gives up on code suggestions after 55 s (gitlab-client.md §12.1); we answer before it.
const CODE: Option<Duration> = Some(Duration::from_secs(50));

const ROWS: &[Row] = &[
    row("code_completions", "Code Completion", None, CODE),
    row("code_generations", "Code Generation", None, CODE),
    row("duo_chat", "General Chat", None, None),
    row("duo_chat_explain_code", "Code Explanation", CHAT, None),
    row("duo_chat_write_tests", "Test Generation", CHAT, None),
    row("duo_chat_refactor_code", "Refactor Code", CHAT, None),
    row("duo_chat_fix_code", "Fix Code", CHAT, None),
    row("duo_chat_troubleshoot_job", "Root Cause Analysis", CHAT, None),
    row("duo_chat_explain_vulnerability", "Vulnerability Explanation", CHAT, None),
    row("duo_chat_summarize_comments", "Discussion Summary", CHAT, None),
    row("generate_commit_message", "Merge Commit Message Generation", None, None),
    row("summarize_new_merge_request", "Merge Request Summary", None, None),
    row("summarize_review", "Code Review Summary", None, None),
    row("review_merge_request", "Code Review", None, None),
    row("resolve_vulnerability", "Vulnerability Resolution", None, None),
    row("glab_ask_git_command", "GitLab Duo for CLI", None, None),
    row("embeddings_code", "Semantic code search", None, None),
    row("duo_agent_platform", "All agents, except Agentic Chat", None, None),
    row("duo_agent_platform_agentic_chat", "Agentic Chat", AGENTS, None),
];

impl Feature {
    /// Code completion.
    pub const CODE_COMPLETIONS: Self = Self(0);
    /// Code generation.
    pub const CODE_GENERATIONS: Self = Self(1);
    /// General Chat, the parent of every `duo_chat_…`.
    pub const DUO_CHAT: Self = Self(2);
    /// Agents, the parent of Agentic Chat.
    pub const DUO_AGENT_PLATFORM: Self = Self(17);
    /// How many there are.
    pub const COUNT: usize = ROWS.len();

    /// All of them, in the order of GitLab's screens.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ROWS.len() as u8).map(Self)
    }

    /// The feature of that key.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|feature| feature.name() == name)
    }

    /// The key in `[features]` and the `feature` label.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// GitLab's title for people.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// The feature whose model is used when this one is not named.
    pub fn parent(self) -> Option<Self> {
        self.row().parent
    }

    /// A total limit that GitLab's own timeouts impose on this feature.
    pub fn total_limit(self) -> Option<Duration> {
        self.row().total
    }

    /// Position in arrays of [`Feature::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    fn row(self) -> &'static Row {
        &ROWS[self.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::Feature;

    #[test]
    fn constants_name_what_they_say() {
        assert_eq!(Feature::CODE_COMPLETIONS.name(), "code_completions");
        assert_eq!(Feature::CODE_GENERATIONS.name(), "code_generations");
        assert_eq!(Feature::DUO_CHAT.name(), "duo_chat");
        assert_eq!(Feature::DUO_AGENT_PLATFORM.name(), "duo_agent_platform");
        assert_eq!(Feature::parse("duo_chat_fix_code").and_then(Feature::parent), Some(Feature::DUO_CHAT));
        assert_eq!(Feature::parse("nothing"), None);
    }
}
