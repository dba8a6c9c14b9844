//! The body that GitLab sends (contract::gitlab_client §7.1, contract::ai_gateway_server §4.1),
//! parsed tolerantly: new categories, page types and fields of later GitLab versions are accepted.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::auth::{Caller, Permission, Scopes};
use crate::error::{BodyFault, GatewayError, Kind};
use crate::generation::Role;
use crate::route::RawModelMetadata;

/// The fields that routing needs.
#[derive(Deserialize)]
pub(super) struct ChatRouting<'a> {
    #[serde(borrow)]
    pub(super) model_metadata: Option<RawModelMetadata<'a>>,
}

/// The whole body.
#[derive(Deserialize)]
pub(super) struct ChatRequest<'a> {
    /// Oldest first. A last message without content carries the steps taken for the question before
    /// it.
    #[serde(borrow)]
    pub(super) messages: Vec<ChatMessage<'a>>,
    /// No longer sent, but shown by GitLab's troubleshooting page.
    #[serde(borrow)]
    options: Option<LegacyOptions<'a>>,
    /// Resources that the tools cannot read; each item may be a comma-separated list.
    #[serde(borrow)]
    unavailable_resources: Option<Vec<Cow<'a, str>>>,
}

/// One message of the conversation.
#[derive(Deserialize)]
pub(super) struct ChatMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content: Option<Cow<'a, str>>,
    /// The page that the user has open.
    #[serde(borrow)]
    pub(super) context: Option<PageContext<'a>>,
    #[serde(borrow)]
    pub(super) current_file: Option<CurrentFile<'a>>,
    #[serde(borrow)]
    additional_context: Option<Vec<ContextItem<'a>>>,
    #[serde(borrow)]
    agent_scratchpad: Option<Vec<ScratchpadStep<'a>>>,
}

/// The GitLab page that the user has open.
#[derive(Deserialize)]
pub(super) struct PageContext<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Option<Cow<'a, str>>,
}

/// The file that the user has open.
#[derive(Deserialize)]
pub(super) struct CurrentFile<'a> {
    #[serde(borrow)]
    pub(super) file_path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) data: Option<Cow<'a, str>>,
    /// Whether `data` is a selection.
    pub(super) selected_code: Option<bool>,
}

/// Context that the user, or the editor, has added.
#[derive(Deserialize)]
pub(super) struct ContextItem<'a> {
    #[serde(borrow)]
    pub(super) category: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Option<Cow<'a, str>>,
    pub(super) metadata: Option<Value>,
}

/// A tool call and its result.
#[derive(Deserialize)]
struct ScratchpadStep<'a> {
    #[serde(borrow)]
    action: Option<ScratchpadAction<'a>>,
    /// The tool's result; missing if the tool failed.
    #[serde(borrow)]
    observation: Option<Cow<'a, str>>,
}

/// The call of a step.
#[derive(Deserialize)]
struct ScratchpadAction<'a> {
    #[serde(borrow)]
    thought: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    tool_input: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct LegacyOptions<'a> {
    #[serde(borrow)]
    agent_scratchpad: Option<LegacyScratchpad<'a>>,
}

#[derive(Deserialize)]
struct LegacyScratchpad<'a> {
    #[serde(borrow, default)]
    steps: Vec<LegacyStep<'a>>,
}

#[derive(Deserialize)]
struct LegacyStep<'a> {
    #[serde(borrow)]
    thought: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    tool_input: Option<Cow<'a, str>>,
    #[serde(borrow)]
    observation: Option<Cow<'a, str>>,
}

/// One step of the agent loop, from either scratchpad. Missing texts are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AgentStep<'a> {
    pub(super) thought: &'a str,
    pub(super) tool: &'a str,
    pub(super) input: &'a str,
    pub(super) observation: &'a str,
}

impl<'a> From<&'a LegacyStep<'_>> for AgentStep<'a> {
    fn from(step: &'a LegacyStep<'_>) -> Self {
        let (thought, tool, input) = (text(&step.thought), &*step.tool, text(&step.tool_input));
        Self { thought, tool, input, observation: text(&step.observation) }
    }
}

impl<'a> AgentStep<'a> {
    /// Converts a step; `None` without an action.
    fn from_step(step: &'a ScratchpadStep<'_>) -> Option<Self> {
        let call = step.action.as_ref()?;
        let (thought, tool, input) = (text(&call.thought), &*call.tool, text(&call.tool_input));
        Some(Self { thought, tool, input, observation: text(&step.observation) })
    }
}

/// Returns the text, or an empty one.
fn text<'a>(text: &'a Option<Cow<'_, str>>) -> &'a str {
    text.as_deref().unwrap_or_default()
}

impl ChatMessage<'_> {
    /// Returns the role of the author, which [`ChatRequest::validate`] has checked.
    pub(super) fn role(&self) -> Role {
        Role::parse(&self.role).unwrap_or(Role::User)
    }

    /// Returns the context added to this message, in the client's order.
    pub(super) fn context_items(&self) -> &[ContextItem<'_>] {
        self.additional_context.as_deref().unwrap_or_default()
    }

    /// Returns whether the message carries only tool results.
    fn is_scratchpad(&self) -> bool {
        self.role() == Role::Assistant && self.content.is_none()
    }
}

impl ChatRequest<'_> {
    /// Refuses conversations that cannot be answered, and context that the caller is not authorized
    /// to send.
    pub(super) fn validate(&self, caller: &Caller) -> Result<(), GatewayError> {
        for (index, message) in self.messages.iter().enumerate() {
            check_role(index, message)?;
            message
                .context_items()
                .iter()
                .try_for_each(|item| authorize_category(caller, &item.category))?;
        }
        let fault = |msg: &str| {
            Err(GatewayError::invalid(vec![BodyFault::at("messages", "value_error", msg)]))
        };
        let mut with_content = self.messages.iter().filter(|message| !message.is_scratchpad());
        match with_content.next_back() {
            None => fault("at least one message of the user is expected"),
            Some(last) if last.role() == Role::User => Ok(()),
            Some(_) => fault("the last message with content must be the user's"),
        }
    }

    /// Returns the steps taken for the last question so far. The old scratchpad in `options` takes
    /// precedence.
    pub(super) fn steps(&self) -> Vec<AgentStep<'_>> {
        if let Some(old) =
            self.options.as_ref().and_then(|options| options.agent_scratchpad.as_ref())
        {
            return old.steps.iter().map(AgentStep::from).collect();
        }
        let last = self.messages.last().filter(|message| message.is_scratchpad());
        let steps =
            last.and_then(|message| message.agent_scratchpad.as_deref()).unwrap_or_default();
        steps.iter().filter_map(AgentStep::from_step).collect()
    }

    /// Returns the names of the resources that the tools cannot read. Without a list in the request
    /// they are the official gateway's defaults, except for merge requests, which every GitLab of
    /// this decade can read.
    pub(super) fn unavailable_resources(&self) -> Vec<&str> {
        let Some(lists) = &self.unavailable_resources else {
            return vec!["Pipelines", "Vulnerabilities"];
        };
        let names = lists.iter().flat_map(|list| list.split(','));
        names.map(str::trim).filter(|name| !name.is_empty()).collect()
    }
}

/// Checks the role of a message, and that a scratchpad belongs to the assistant.
fn check_role(index: usize, message: &ChatMessage<'_>) -> Result<(), GatewayError> {
    match Role::parse(&message.role) {
        Some(Role::Assistant) => Ok(()),
        Some(Role::System | Role::User) if message.agent_scratchpad.is_none() => Ok(()),
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

/// Checks that the caller may send context of a category. GitLab has a unit primitive for each
/// category that it guards; the others are open.
fn authorize_category(caller: &Caller, category: &str) -> Result<(), GatewayError> {
    let name = format!("include_{category}_context");
    let any_of = Scopes::from_names([name.as_str()]);
    if any_of == Scopes::default() {
        Ok(())
    } else {
        caller.authorize(&Permission::to_access(any_of, name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{AgentStep, ChatRequest};
    use crate::auth::{Caller, Claims, Scopes};

    fn with_request<T>(body: &Value, run: impl FnOnce(&ChatRequest<'_>) -> T) -> T {
        let text = body.to_string();
        run(&serde_json::from_str(&text).unwrap())
    }

    fn refusal(body: &Value) -> (u16, String) {
        with_request(body, |request| {
            let error = request.validate(&Caller::Anonymous).unwrap_err();
            (error.kind().row().status.as_u16(), error.public().to_owned())
        })
    }

    #[test]
    fn everything_that_gitlab_documents_is_accepted() {
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
        with_request(&body, |request| {
            request.validate(&Caller::Anonymous).unwrap();
            assert_eq!(
                request.steps(),
                [AgentStep { thought: "t", tool: "issue_reader", input: "#1", observation: "" }]
            );
            assert_eq!(
                request.unavailable_resources(),
                ["Pipelines", "Vulnerabilities", "Merge Requests"]
            );
            assert_eq!(request.messages[2].context_items().len(), 5);
        });
    }

    #[test]
    fn the_old_scratchpad_takes_precedence() {
        let body = json!({
            "messages": [{"role": "user", "content": "Hi"}],
            "options": {"agent_scratchpad": {"agent_type": "react", "steps": [
                {"thought": "t", "tool": "x", "tool_input": "i", "observation": "o"}]}},
        });
        with_request(&body, |request| {
            let done = AgentStep { thought: "t", tool: "x", input: "i", observation: "o" };
            assert_eq!(request.steps(), [done]);
            assert_eq!(request.unavailable_resources(), ["Pipelines", "Vulnerabilities"]);
        });
    }

    #[test]
    fn a_token_grants_the_categories_in_its_scopes_and_those_without_a_primitive() {
        let caller = |scopes: &[&str]| {
            let scopes = Scopes::from_names(scopes.iter().copied());
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
            with_request(&body(category), |request| {
                request.validate(&caller(scopes)).map_err(|error| error.public().to_owned())
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
    fn invalid_conversations_are_refused() {
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
