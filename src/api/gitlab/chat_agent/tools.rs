//! The tools that GitLab can run for a chat, and which of them a request may use
//! (contract::gitlab_client §7.3, contract::ai_gateway_server §4.3).

use serde_json::{Value, json};

use crate::auth::{Caller, Permission, Scopes};
use crate::generation;

/// A tool that GitLab runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// The name by which GitLab looks it up.
    pub(super) name: &'static str,
    /// The unit primitive that grants it.
    primitive: &'static str,
    /// The first GitLab version with it: major and minor.
    since: (u32, u32),
    /// The resource that it reads, as named in `unavailable_resources`.
    resource: &'static str,
    /// What it does, for the model.
    pub(super) description: &'static str,
    /// A typical input, for the model.
    pub(super) example: &'static str,
}

/// What the input of every reader contains, for the model.
const READER_USAGE: &str = "Give it what the user wrote that points to it: a URL, a reference, or \"current\" for the one on the page \
the user looks at; and what is to be found out.";

/// Lower than any version of GitLab.
const ANY_VERSION: (u32, u32) = (0, 0);

/// Every tool, in the order that the model sees.
static TOOLS: [Tool; 7] = [
    Tool {
        name: "issue_reader",
        primitive: "ask_issue",
        since: ANY_VERSION,
        resource: "Issues",
        description: "Reads a GitLab issue: its description, state, labels, people, dates and comments.",
        example: "Who is assigned to issue #123?",
    },
    Tool {
        name: "epic_reader",
        primitive: "ask_epic",
        since: ANY_VERSION,
        resource: "Epics",
        description: "Reads a GitLab epic: its description, state, labels, dates and comments.",
        example: "Summarize epic &42",
    },
    Tool {
        name: "work_item_reader",
        primitive: "ask_work_item",
        since: ANY_VERSION,
        resource: "Work Items",
        description: "Reads a GitLab work item (a task, an objective, a key result) by its URL, which contains /work_items/.",
        example: "Summarize https://gitlab.example.com/group/project/-/work_items/7",
    },
    Tool {
        name: "merge_request_reader",
        primitive: "ask_merge_request",
        since: (17, 5),
        resource: "Merge Requests",
        description: "Reads a GitLab merge request: its description, state, people, changes and comments.",
        example: "What does merge request !99 change?",
    },
    Tool {
        name: "commit_reader",
        primitive: "ask_commit",
        since: (17, 5),
        resource: "Commits",
        description: "Reads a commit in GitLab: its message, author, date and changes.",
        example: "Explain commit a1b2c3d4",
    },
    Tool {
        name: "build_reader",
        primitive: "ask_build",
        since: (17, 5),
        resource: "Builds",
        description: "Reads a CI/CD job (a build) in GitLab: its state and the end of its log.",
        example: "Why did job 456 fail?",
    },
    Tool {
        name: "gitlab_documentation",
        primitive: "documentation_search",
        since: ANY_VERSION,
        resource: "Documentation",
        description: "Searches GitLab's documentation. For questions about how GitLab works or is set up, not about the user's own data.",
        example: "How do I protect a branch?",
    },
];

impl Tool {
    /// Returns what the input contains, for the model.
    pub(super) fn usage(&self) -> &'static str {
        if self.name == "gitlab_documentation" {
            "Give it the question in the user's words."
        } else {
            READER_USAGE
        }
    }

    /// Returns the function definition for models that call functions.
    pub(super) fn function(&self) -> generation::Tool {
        let input = json!({"type": "string", "description": format!("{} For example: {}", self.usage(), self.example)});
        generation::Tool {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            parameters: json!({"type": "object", "properties": {"input": input}, "required": ["input"], "additionalProperties": false}),
            strict: None,
        }
    }

    /// Returns the entry for a prompt that describes the tools in its text.
    pub(super) fn prompt_entry(&self) -> Value {
        json!({"name": self.name, "description": self.description, "usage": self.usage(), "example": self.example})
    }
}

/// Returns the tools that a caller may use, in a fixed order. Version and scopes are checked for
/// GitLab instances only.
pub(super) fn available_to(
    caller: &Caller,
    version: Option<&str>,
    unavailable: &[&str],
) -> Vec<&'static Tool> {
    let is_instance = matches!(caller, Caller::Gitlab(_));
    let version = version.map_or(ANY_VERSION, parse_version);
    let is_available = |tool: &&Tool| {
        let any_of = Scopes::from_names([tool.primitive]);
        let is_entitled = caller.authorize(&Permission::to_access(any_of, tool.name)).is_ok();
        let is_supported = !is_instance || version >= tool.since;
        let is_blocked = unavailable.iter().any(|name| name.eq_ignore_ascii_case(tool.resource));
        is_entitled && is_supported && !is_blocked
    };
    TOOLS.iter().filter(is_available).collect()
}

/// Returns whether GitLab has a tool of this name.
pub(super) fn is_known(name: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == name)
}

/// Parses major and minor: `18.9.0-pre` → (18, 9). A part that is no number counts as 0.
fn parse_version(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{TOOLS, available_to, parse_version};
    use crate::auth::{Caller, Claims, Scopes, StaticKey};

    fn names(caller: &Caller, version: Option<&str>, unavailable: &[&str]) -> Vec<&'static str> {
        available_to(caller, version, unavailable).iter().map(|tool| tool.name).collect()
    }

    #[test]
    fn every_tool_has_a_primitive_that_tokens_carry() {
        for tool in &TOOLS {
            assert_ne!(Scopes::from_names([tool.primitive]), Scopes::default(), "{}", tool.name);
        }
        assert_eq!(names(&Caller::Key(Arc::new(StaticKey::new(b"k", "k"))), None, &[]).len(), 7);
    }

    #[test]
    fn tools_of_unavailable_resources_are_left_out() {
        let left = names(&Caller::Anonymous, None, &["merge requests", "Pipelines"]);
        assert!(left.len() == 6 && !left.contains(&"merge_request_reader"), "{left:?}");
    }

    #[test]
    fn a_token_grants_tools_that_its_gitlab_has() {
        let scopes = Scopes::from_names(["duo_chat", "ask_issue", "ask_commit"]);
        let (realm, model) = ("self-managed".into(), String::new());
        let claims = Claims { subject: "i".into(), realm, instance_id: "i".into(), scopes, model };
        let caller = Caller::Gitlab(claims);
        assert_eq!(names(&caller, Some("18.9.0-pre"), &[]), ["issue_reader", "commit_reader"]);
        for old in [Some("17.4.2"), None] {
            assert_eq!(names(&caller, old, &[]), ["issue_reader"]);
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("18.10.0-pre") > parse_version("18.9.1"));
        assert_eq!((parse_version("17.5.0-pre"), parse_version("x")), ((17, 5), (0, 0)));
    }
}
