//! The tools that GitLab can run for a chat, and who is offered which (gitlab-client.md §7.3,
//! ai-gateway-server.md §4.3).

use serde_json::{Value, json};

use crate::auth::{Caller, Permission, Scopes};
use crate::generation;

/// One tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// As GitLab looks it up.
    pub(super) name: &'static str,
    /// The unit primitive that opens it.
    primitive: &'static str,
    /// The first GitLab that has it: major and minor.
    since: (u32, u32),
    /// What it reads, as `unavailable_resources` calls it.
    resource: &'static str,
    /// For the model.
    pub(super) description: &'static str,
    /// An input it may be given.
    pub(super) example: &'static str,
}

const READER: &str = "Give it what the user wrote that points to it: a URL, a reference, or \"current\" for the one on the page \
the user looks at; and what is to be found out.";

const ALWAYS: (u32, u32) = (0, 0);

static TOOLS: [Tool; 7] = [
    Tool {
        name: "issue_reader",
        primitive: "ask_issue",
        since: ALWAYS,
        resource: "Issues",
        description: "Reads a GitLab issue: its description, state, labels, people, dates and comments.",
        example: "Who is assigned to issue #123?",
    },
    Tool {
        name: "epic_reader",
        primitive: "ask_epic",
        since: ALWAYS,
        resource: "Epics",
        description: "Reads a GitLab epic: its description, state, labels, dates and comments.",
        example: "Summarize epic &42",
    },
    Tool {
        name: "work_item_reader",
        primitive: "ask_work_item",
        since: ALWAYS,
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
        since: ALWAYS,
        resource: "Documentation",
        description: "Searches GitLab's documentation. For questions about how GitLab works or is set up, not about the user's own data.",
        example: "How do I protect a branch?",
    },
];

impl Tool {
    /// What a reader's input is to hold.
    pub(super) fn usage(&self) -> &'static str {
        if self.name == "gitlab_documentation" {
            "Give it the question in the user's words."
        } else {
            READER
        }
    }

    /// The function a model may call.
    pub(super) fn function(&self) -> generation::Tool {
        let input = json!({"type": "string", "description": format!("{} For example: {}", self.usage(), self.example)});
        generation::Tool {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            parameters: json!({"type": "object", "properties": {"input": input}, "required": ["input"], "additionalProperties": false}),
            strict: None,
        }
    }

    /// For a prompt that describes tools in words.
    pub(super) fn described(&self) -> Value {
        json!({"name": self.name, "description": self.description, "usage": self.usage(), "example": self.example})
    }
}

/// The tools for this caller, in a fixed order. Who is not a GitLab instance is asked for no
/// version and no scope.
pub(super) fn offered(
    caller: &Caller,
    version: Option<&str>,
    unavailable: &[&str],
) -> Vec<&'static Tool> {
    let instance = matches!(caller, Caller::Gitlab(_));
    let version = version.map_or(ALWAYS, parsed);
    let is_offered = |tool: &&Tool| {
        let any_of = Scopes::of([tool.primitive]);
        let entitled = caller.may(&Permission::to_access(any_of, tool.name)).is_ok();
        let is_there = !instance || version >= tool.since;
        entitled
            && is_there
            && !unavailable.iter().any(|name| name.eq_ignore_ascii_case(tool.resource))
    };
    TOOLS.iter().filter(is_offered).collect()
}

/// Whether GitLab has a tool of this name at all.
pub(super) fn exists(name: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == name)
}

/// `18.9.0-pre` → (18, 9).
fn parsed(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{TOOLS, offered, parsed};
    use crate::auth::{Caller, Claims, Scopes, StaticKey};

    fn names(caller: &Caller, version: Option<&str>, unavailable: &[&str]) -> Vec<&'static str> {
        offered(caller, version, unavailable).iter().map(|tool| tool.name).collect()
    }

    #[test]
    fn every_tool_has_a_primitive_that_tokens_carry() {
        for tool in &TOOLS {
            assert_ne!(Scopes::of([tool.primitive]), Scopes::default(), "{}", tool.name);
        }
        assert_eq!(names(&Caller::Key(Arc::new(StaticKey::new(b"k", "k"))), None, &[]).len(), 7);
    }

    #[test]
    fn what_is_unavailable_is_not_offered() {
        let left = names(&Caller::Anyone, None, &["merge requests", "Pipelines"]);
        assert!(left.len() == 6 && !left.contains(&"merge_request_reader"), "{left:?}");
    }

    #[test]
    fn a_token_opens_tools_that_its_gitlab_has() {
        let scopes = Scopes::of(["duo_chat", "ask_issue", "ask_commit"]);
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
        assert!(parsed("18.10.0-pre") > parsed("18.9.1"));
        assert_eq!((parsed("17.5.0-pre"), parsed("x")), ((17, 5), (0, 0)));
    }
}
