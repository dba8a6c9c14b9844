//! What GitLab sends (gitlab-client.md §7.1, ai-gateway-server.md §4.1), read tolerantly:
//! categories, page types and fields that GitLab adds are taken as they come.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::auth::{Caller, Permission, Scopes};
use crate::error::{BodyFault, GatewayError, Kind};
use crate::generation::Role;
use crate::route::RawMetadata;

/// The part that routing needs.
#[derive(Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) model_metadata: Option<RawMetadata<'a>>,
}

/// All of it.
#[derive(Deserialize)]
pub(super) struct Request<'a> {
    /// Oldest first. A last one without content asks to go on with the question before it.
    #[serde(borrow)]
    pub(super) messages: Vec<Turn<'a>>,
    /// No longer sent, but shown by GitLab's troubleshooting page.
    #[serde(borrow)]
    options: Option<Options<'a>>,
    /// What the tools cannot read; each may be a list.
    #[serde(borrow)]
    unavailable_resources: Option<Vec<Cow<'a, str>>>,
}

/// One message.
#[derive(Deserialize)]
pub(super) struct Turn<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content: Option<Cow<'a, str>>,
    /// The page that the user looks at.
    #[serde(borrow)]
    pub(super) context: Option<Page<'a>>,
    #[serde(borrow)]
    pub(super) current_file: Option<CurrentFile<'a>>,
    #[serde(borrow)]
    additional_context: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    agent_scratchpad: Option<Vec<Step<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct CurrentFile<'a> {
    #[serde(borrow)]
    pub(super) file_path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) data: Option<Cow<'a, str>>,
    /// Whether `data` is a selection.
    pub(super) selected_code: Option<bool>,
}

/// Something the user, or the editor, has added.
#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow)]
    pub(super) category: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Option<Cow<'a, str>>,
    pub(super) metadata: Option<Value>,
}

/// A tool that was called, and what it said.
#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow)]
    action: Option<Call<'a>>,
    /// Missing where the tool failed.
    #[serde(borrow)]
    observation: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    thought: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    tool_input: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow)]
    agent_scratchpad: Option<OldScratchpad<'a>>,
}

#[derive(Deserialize)]
struct OldScratchpad<'a> {
    #[serde(borrow, default)]
    steps: Vec<OldStep<'a>>,
}

#[derive(Deserialize)]
struct OldStep<'a> {
    #[serde(borrow)]
    thought: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    tool_input: Option<Cow<'a, str>>,
    #[serde(borrow)]
    observation: Option<Cow<'a, str>>,
}

/// One step of the loop so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done<'a> {
    pub(super) thought: &'a str,
    pub(super) tool: &'a str,
    pub(super) input: &'a str,
    pub(super) observation: &'a str,
}

impl<'a> From<&'a OldStep<'_>> for Done<'a> {
    fn from(step: &'a OldStep<'_>) -> Self {
        let (thought, tool, input) = (text(&step.thought), &*step.tool, text(&step.tool_input));
        Self { thought, tool, input, observation: text(&step.observation) }
    }
}

impl<'a> Done<'a> {
    /// A step without an action says nothing.
    fn of(step: &'a Step<'_>) -> Option<Self> {
        let call = step.action.as_ref()?;
        let (thought, tool, input) = (text(&call.thought), &*call.tool, text(&call.tool_input));
        Some(Self { thought, tool, input, observation: text(&step.observation) })
    }
}

fn text<'a>(text: &'a Option<Cow<'_, str>>) -> &'a str {
    text.as_deref().unwrap_or_default()
}

impl Turn<'_> {
    /// Who speaks; checked by [`Request::check`].
    pub(super) fn role(&self) -> Role {
        Role::parse(&self.role).unwrap_or(Role::User)
    }

    /// Everything added, in order.
    pub(super) fn items(&self) -> &[Item<'_>] {
        self.additional_context.as_deref().unwrap_or_default()
    }

    /// Whether it only carries what the tools have said.
    fn is_bare(&self) -> bool {
        self.role() == Role::Assistant && self.content.is_none()
    }
}

impl Request<'_> {
    /// Refuses what cannot be answered, and what the caller may not send.
    pub(super) fn check(&self, caller: &Caller) -> Result<(), GatewayError> {
        for (index, turn) in self.messages.iter().enumerate() {
            self.check_turn(index, turn)?;
            turn.items().iter().try_for_each(|item| may_include(caller, &item.category))?;
        }
        let fault = |msg: &str| {
            Err(GatewayError::invalid(vec![BodyFault::at("messages", "value_error", msg)]))
        };
        let mut said = self.messages.iter().filter(|turn| !turn.is_bare());
        match said.next_back() {
            None => fault("at least one message of the user is expected"),
            Some(last) if last.role() == Role::User => Ok(()),
            Some(_) => fault("the last message with content must be the user's"),
        }
    }

    fn check_turn(&self, index: usize, turn: &Turn<'_>) -> Result<(), GatewayError> {
        match Role::parse(&turn.role) {
            Some(Role::Assistant) => Ok(()),
            Some(Role::System | Role::User) if turn.agent_scratchpad.is_none() => Ok(()),
            Some(Role::System | Role::User) => {
                // the sentence of GitLab's own gateway
                let text = "agent_scratchpad can only be present when role is ASSISTANT";
                Err(GatewayError::new(Kind::BadRequest, text))
            }
            Some(Role::Tool) | None => {
                let loc =
                    vec!["body".into(), "messages".into(), index.to_string().into(), "role".into()];
                let msg = "expected system, user or assistant".to_owned();
                Err(GatewayError::invalid(vec![BodyFault { loc, msg, kind: "value_error" }]))
            }
        }
    }

    /// What was done for the last question so far.
    pub(super) fn steps(&self) -> Vec<Done<'_>> {
        if let Some(old) =
            self.options.as_ref().and_then(|options| options.agent_scratchpad.as_ref())
        {
            return old.steps.iter().map(Done::from).collect();
        }
        let last = self.messages.last().filter(|turn| turn.is_bare());
        let steps = last.and_then(|turn| turn.agent_scratchpad.as_deref()).unwrap_or_default();
        steps.iter().filter_map(Done::of).collect()
    }

    /// What the tools cannot read, one name each. What GitLab's gateway assumes where nothing is
    /// sent, but for merge requests, which every GitLab of this decade can read.
    pub(super) fn unavailable(&self) -> Vec<&str> {
        let Some(lists) = &self.unavailable_resources else {
            return vec!["Pipelines", "Vulnerabilities"];
        };
        let names = lists.iter().flat_map(|list| list.split(','));
        names.map(str::trim).filter(|name| !name.is_empty()).collect()
    }
}

/// GitLab names a unit primitive for each category that it guards; others are open.
fn may_include(caller: &Caller, category: &str) -> Result<(), GatewayError> {
    let name = format!("include_{category}_context");
    let any_of = Scopes::of([name.as_str()]);
    if any_of == Scopes::default() {
        Ok(())
    } else {
        caller.may(&Permission::to_access(any_of, name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Done, Request};
    use crate::auth::{Caller, Claims, Scopes};

    fn with<T>(body: &Value, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let text = body.to_string();
        look(&serde_json::from_str(&text).unwrap())
    }

    fn refusal(body: &Value) -> (u16, String) {
        with(body, |request| {
            let error = request.check(&Caller::Anyone).unwrap_err();
            (error.kind().row().status.as_u16(), error.public().to_owned())
        })
    }

    #[test]
    fn everything_that_gitlab_documents_is_taken() {
        let categories =
            ["file", "user_rule", "os_information", "agent_user_environment", "not_yet_invented"];
        let items: Vec<Value> =
            categories.iter().map(|category| json!({"category": category, "id": null})).collect();
        let step = json!({"action": {"type": "action", "thought": "t", "tool": "issue_reader", "tool_input": "#1"}});
        let body = json!({
            "messages": [
                {"role": "user", "content": "Q1", "additional_context": [], "agent_scratchpad": null},
                {"role": "assistant", "content": "A1", "additional_context": null, "agent_scratchpad": [step]},
                {"role": "user", "content": "Q2", "context": {"type": "build"}, "current_file": null, "additional_context": items},
                {"role": "assistant", "agent_scratchpad": [step, {"observation": "lost"}]},
            ],
            "model_metadata": null,
            "unavailable_resources": ["Pipelines, Vulnerabilities", "Merge Requests"],
        });
        with(&body, |request| {
            request.check(&Caller::Anyone).unwrap();
            assert_eq!(
                request.steps(),
                [Done { thought: "t", tool: "issue_reader", input: "#1", observation: "" }]
            );
            assert_eq!(request.unavailable(), ["Pipelines", "Vulnerabilities", "Merge Requests"]);
            assert_eq!(request.messages[2].items().len(), 5);
        });
    }

    #[test]
    fn the_old_place_of_the_steps_wins() {
        let body = json!({
            "messages": [{"role": "user", "content": "Hi"}],
            "options": {"agent_scratchpad": {"agent_type": "react", "steps": [
                {"thought": "t", "tool": "x", "tool_input": "i", "observation": "o"}]}},
        });
        with(&body, |request| {
            let done = Done { thought: "t", tool: "x", input: "i", observation: "o" };
            assert_eq!(request.steps(), [done]);
            assert_eq!(request.unavailable(), ["Pipelines", "Vulnerabilities"]);
        });
    }

    #[test]
    fn a_token_opens_the_categories_it_names_and_those_without_a_primitive() {
        let caller = |scopes: &[&str]| {
            let scopes = Scopes::of(scopes.iter().copied());
            Caller::Gitlab(Claims {
                subject: "i".into(),
                realm: "self-managed".into(),
                instance_id: "i".into(),
                scopes,
                model: String::new(),
            })
        };
        let items = |category: &str| json!([{"category": category}]);
        let body = |category| {
            json!({"messages": [
            {"role": "user", "content": "Q1", "additional_context": items(category)}, {"role": "user", "content": "Q2"}]})
        };
        let check = |category, scopes: &[&str]| {
            with(&body(category), |request| {
                request.check(&caller(scopes)).map_err(|error| error.public().to_owned())
            })
        };
        assert_eq!(
            check("file", &["duo_chat"]),
            Err("Unauthorized to access include_file_context".into())
        );
        assert_eq!(check("file", &["duo_chat", "include_file_context"]), Ok(()));
        assert_eq!(
            check("terminal", &["include_file_context"]),
            Err("Unauthorized to access include_terminal_context".into())
        );
        assert_eq!(check("user_rule", &["duo_chat"]), Ok(()));
        assert_eq!(check("os_information", &["duo_chat"]), Ok(()));
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let user = json!({"role": "user", "content": "Q"});
        let scratch =
            json!({"messages": [{"role": "user", "content": "Q", "agent_scratchpad": []}]});
        assert_eq!(
            refusal(&scratch),
            (400, "agent_scratchpad can only be present when role is ASSISTANT".into())
        );
        assert_eq!(refusal(&json!({"messages": []})).0, 422);
        assert_eq!(
            refusal(&json!({"messages": [{"role": "assistant", "agent_scratchpad": []}]})).0,
            422
        );
        assert_eq!(
            refusal(&json!({"messages": [user, {"role": "assistant", "content": "A"}]})).0,
            422
        );
        assert_eq!(
            refusal(&json!({"messages": [user, {"role": "oracle", "content": "A"}, user]})).0,
            422
        );
    }
}
