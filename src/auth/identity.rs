//! Who called, and what they may do: GitLab's unit primitives as a bit set. Sources:
//! gitlab-client.md §5.1, §5.3; ai-gateway-server.md §5.3.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::jwt::Claims;
use super::{Rates, StaticKey};
use crate::error::{GatewayError, Kind};
use crate::model::Model;
use crate::route::Feature;

/// The unit primitives that GitLab's tokens carry as `scopes` and that are asked for over HTTP.
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
    /// Every one that is known here.
    pub const ANY: Self = Self((1 << NAMES.len()) - 1);

    /// Those of these names. Names that are not known here are left out: GitLab adds some with
    /// every release.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let bit = |name: &str| {
            NAMES.iter().position(|known| *known == name).map_or(0, |index| 1 << index)
        };
        Self(names.into_iter().fold(0, |set, name| set | bit(name)))
    }

    /// Their names, in the table's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, name)| *name)
    }

    /// Those of which one is enough for a feature.
    pub fn of_feature(feature: Feature) -> Self {
        match feature.name() {
            "code_completions" => Self::of(["complete_code"]),
            "code_generations" => Self::of(["generate_code"]),
            "duo_chat" => Self::of(["duo_chat", "duo_classic_chat"]),
            "embeddings_code" => Self::of(["generate_embeddings_codebase"]),
            "duo_agent_platform" | "duo_agent_platform_agentic_chat" => {
                Self::of(["duo_agent_platform", "duo_workflow_execute_workflow"])
            }
            // the others are named after their primitive
            name => Self::of([name.strip_prefix("duo_chat_").unwrap_or(name)]),
        }
    }

    /// Whether one of these is among them.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody was asked (`mode = "off"`).
    Anyone,
    /// The holder of a static key: may do everything, by the models that the key is for.
    Key(Arc<StaticKey>),
    /// A GitLab instance, by its token.
    Gitlab(Claims),
    /// A user of one, by a token of ours.
    User(Claims),
}

/// What an endpoint asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// One of these is enough.
    pub any_of: Scopes,
    /// What is done there: `access`, mostly.
    pub act: &'static str,
    /// To what, in GitLab's words: `Unauthorized to {act} {what}`.
    pub what: Cow<'static, str>,
    /// Whether users' own tokens count, which IDEs hold: only for code completion (issue 5, item
    /// 2).
    pub users: bool,
}

impl Permission {
    /// What GitLab's own token opens, not one of its users'.
    pub fn to_access(any_of: Scopes, what: impl Into<Cow<'static, str>>) -> Self {
        Self { any_of, act: "access", what: what.into(), users: false }
    }
}

impl Caller {
    /// Whether this caller may do this.
    pub fn may(&self, permission: &Permission) -> Result<(), GatewayError> {
        let refused = |why: &str| {
            let text = format!("Unauthorized to {} {}", permission.act, permission.what);
            Err(GatewayError::new(Kind::Forbidden, text).internal(why))
        };
        match self {
            Self::User(_) if !permission.users => {
                refused("a user's token is for code completion only")
            }
            Self::Gitlab(claims) | Self::User(claims)
                if !claims.scopes.intersects(permission.any_of) =>
            {
                refused("the token's scopes do not allow it")
            }
            Self::Anyone | Self::Key(_) | Self::Gitlab(_) | Self::User(_) => Ok(()),
        }
    }

    /// Whether this caller may use this model: a key may be for some of the file's only.
    pub fn may_use(&self, model: &Model) -> Result<(), GatewayError> {
        match self {
            Self::Key(key) if !key.allows(&model.id) => {
                let text = format!(
                    "This key is not for the model {} (models in auth.static_keys)",
                    model.id
                );
                Err(GatewayError::new(Kind::Forbidden, text).internal(format!("key {}", key.name)))
            }
            Self::Anyone | Self::Key(_) | Self::Gitlab(_) | Self::User(_) => Ok(()),
        }
    }

    /// What this caller may ask for in a minute, where `base` is what everybody may.
    pub fn rates(&self, base: Rates) -> Rates {
        match self {
            Self::Key(key) => key.rates.over(base),
            Self::Anyone | Self::Gitlab(_) | Self::User(_) => base,
        }
    }

    /// By what name its requests are counted: a key's, a GitLab's instance id (its users count for
    /// it), the address of those who were not asked who they are.
    pub fn account(&self, client: Option<IpAddr>) -> String {
        match self {
            Self::Anyone => {
                client.map_or_else(|| "address".to_owned(), |client| format!("address {client}"))
            }
            Self::Key(key) => format!("key {}", key.name),
            Self::Gitlab(claims) => format!("gitlab {}", claims.subject),
            Self::User(claims) => format!("gitlab {}", claims.instance_id),
        }
    }

    /// Whether this caller may name a model and its address in a request. GitLab's administrators
    /// may, its users not: the gateway would reach into the network for them, and IDEs name none
    /// (gitlab-client.md §6.4).
    pub fn may_name_a_model(&self) -> Result<(), GatewayError> {
        match self {
            Self::User(_) => Err(GatewayError::new(
                Kind::Forbidden,
                "A user's token is bound to the administrator's model: the request may name no other",
            )),
            Self::Anyone | Self::Key(_) | Self::Gitlab(_) => Ok(()),
        }
    }

    /// The model that the caller's token is bound to, by its name in the file.
    pub fn bound_model(&self) -> Option<&str> {
        match self {
            Self::User(claims) if !claims.model.is_empty() => Some(&claims.model),
            Self::Anyone | Self::Key(_) | Self::Gitlab(_) | Self::User(_) => None,
        }
    }
}

/// The headers that must say what the token says; the first that does not. A claim that is empty is
/// not compared (gitlab-client.md §3.5), a header that is sent twice is wrong if either is.
pub(super) fn mismatch(caller: &Caller, headers: &HeaderMap) -> Option<&'static str> {
    let (claims, instance, user) = match caller {
        Caller::Anyone | Caller::Key(_) => return None,
        Caller::Gitlab(claims) => (claims, claims.subject.as_str(), ""),
        Caller::User(claims) => (claims, "", claims.subject.as_str()),
    };
    let differs = |name: &str, claim: &str| {
        let mut said =
            headers.get_all(name).iter().map(|value| value.as_bytes() == claim.as_bytes());
        let agrees = said.next() == Some(true) && said.all(|same| same);
        !claim.is_empty() && !agrees
    };
    if differs("x-gitlab-realm", &claims.realm) {
        Some("Header mismatch 'X-Gitlab-Realm'")
    } else if differs("x-gitlab-instance-id", &claims.instance_id)
        || differs("x-gitlab-instance-id", instance)
    {
        Some("Header mismatch 'X-Gitlab-Instance-Id'")
    } else if differs("x-gitlab-global-user-id", user) {
        Some("Header mismatch 'X-Gitlab-Global-User-Id'")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Scopes};
    use crate::route::Feature;

    #[test]
    fn every_feature_has_a_scope_and_the_set_has_room() {
        for feature in Feature::all() {
            assert!(Scopes::of_feature(feature).intersects(Scopes::ANY), "{}", feature.name());
        }
        assert!(NAMES.len() < 64);
        assert_eq!(Scopes::of(NAMES.iter().copied()), Scopes::ANY);
    }

    #[test]
    fn unknown_scopes_open_nothing() {
        let token = Scopes::of(["complete_code", "not_yet_invented", ""]);
        assert_eq!(token, Scopes::of(["complete_code"]));
        assert!(token.intersects(Scopes::of_feature(Feature::CODE_COMPLETIONS)));
        assert!(!token.intersects(Scopes::of_feature(Feature::DUO_CHAT)));
        assert!(!Scopes::default().intersects(Scopes::ANY));
    }
}
