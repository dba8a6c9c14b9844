//! GitLab's unit primitives, the scopes of its tokens, as a bit set. Source:
//! contract::gitlab_client §5.1, §5.3.

use crate::route::Feature;

/// The unit primitives that GitLab's tokens carry as `scopes` and that an HTTP endpoint requires.
const NAMES: &[&str] = &[
    "complete_code",
    "generate_code",
    "duo_chat",
    "duo_classic_chat",
    "explain_code",
    "write_tests",
    "refactor_code",
    "fix_code",
    "troubleshoot_job",
    "explain_vulnerability",
    "resolve_vulnerability",
    "summarize_comments",
    "summarize_new_merge_request",
    "summarize_review",
    "review_merge_request",
    "generate_commit_message",
    "generate_issue_description",
    "description_composer",
    "glab_ask_git_command",
    "measure_comment_temperature",
    "documentation_search",
    "feature_discovery_search",
    "generate_embeddings_codebase",
    "ask_build",
    "ask_commit",
    "ask_epic",
    "ask_issue",
    "ask_merge_request",
    "ask_work_item",
    "duo_agent_platform",
    "duo_workflow_execute_workflow",
    "ai_gateway_model_provider_proxy",
    "amazon_q_integration",
    "include_file_context",
    "include_snippet_context",
    "include_merge_request_context",
    "include_issue_context",
    "include_dependency_context",
    "include_local_git_context",
    "include_terminal_context",
    "include_repository_context",
    "include_directory_context",
];

/// A set of unit primitives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u64);

impl Scopes {
    /// Every unit primitive known to this version.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// Creates the set of these names. Unknown names are ignored: GitLab adds some with every
    /// release.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let bit = |name: &str| {
            NAMES.iter().position(|known| *known == name).map_or(0, |index| 1 << index)
        };
        Self(names.into_iter().fold(0, |set, name| set | bit(name)))
    }

    /// Returns the names of the set, in the table's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, name)| *name)
    }

    /// Returns the scopes of which one is enough for a feature.
    pub fn for_feature(feature: Feature) -> Self {
        match feature.name() {
            "code_completions" => Self::from_names(["complete_code"]),
            "code_generations" => Self::from_names(["generate_code"]),
            "duo_chat" => Self::from_names(["duo_chat", "duo_classic_chat"]),
            "embeddings_code" => Self::from_names(["generate_embeddings_codebase"]),
            "duo_agent_platform" | "duo_agent_platform_agentic_chat" => {
                Self::from_names(["duo_agent_platform", "duo_workflow_execute_workflow"])
            }
            // the others are named after their primitive
            name => Self::from_names([name.strip_prefix("duo_chat_").unwrap_or(name)]),
        }
    }

    /// Returns whether the two sets have an element in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Scopes};
    use crate::route::Feature;

    #[test]
    fn every_feature_has_a_scope_and_the_set_has_room() {
        for feature in Feature::all() {
            assert!(Scopes::for_feature(feature).intersects(Scopes::ALL), "{}", feature.name());
        }
        assert!(NAMES.len() < 64);
        assert_eq!(Scopes::from_names(NAMES.iter().copied()), Scopes::ALL);
    }

    #[test]
    fn unknown_scopes_open_nothing() {
        let token = Scopes::from_names(["complete_code", "not_yet_invented", ""]);
        assert_eq!(token, Scopes::from_names(["complete_code"]));
        assert!(token.intersects(Scopes::for_feature(Feature::CODE_COMPLETIONS)));
        assert!(!token.intersects(Scopes::for_feature(Feature::DUO_CHAT)));
        assert!(!Scopes::default().intersects(Scopes::ALL));
    }
}
