//! Model families: how a kind of model is prompted. Data, not code: `config/families.toml` has
//! GitLab's families (contract::gitlab_client §5.2) and some more, and an operator's
//! `[families.<name>]` overrides it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::generation::{Message, Role};

/// Name of the fallback family.
const GENERAL: &str = "general";

/// Prompting rules of one kind of model.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Name in GitLab's requests and in the file.
    pub name: Arc<str>,
    /// Style of code completion.
    pub completion: Completion,
    /// Call of the model server that completes code, if it is configured.
    pub completion_endpoint: Option<CompletionEndpoint>,
    /// Size of the model's context window in tokens, prompt and response together.
    pub context_tokens: u32,
    /// Maximum tokens of a completion.
    pub completion_tokens: u32,
    /// Maximum tokens of generated code.
    pub generation_tokens: u32,
    /// Maximum tokens of other responses; `None` leaves it to the model server.
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 is greedy; `None` sends none, for models that refuse one.
    pub temperature: Option<f64>,
    /// Whether responses may contain `<think>` blocks, which are removed.
    pub strip_reasoning: bool,
    /// Whether the chat template takes one system message only, as the first.
    pub single_system: bool,
    /// How tools are passed in chat.
    pub tools: ToolStyle,
    /// Folders of prompts in search order; `base` follows.
    pub prompts: Vec<Box<str>>,
    /// Whether the model writes `\_` where code has `_`.
    pub unescape_underscores: bool,
}

/// Style of code completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// An instruction in a chat message.
    Chat,
    /// Fill-in-the-middle, with the tokens that the model was trained with.
    Fim(Fim),
}

/// Fill-in-the-middle prompt of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fim {
    /// Template of the prompt.
    pub template: FimTemplate,
    /// Stop sequences.
    pub stop: Vec<String>,
}

/// Call of the model server that completes code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionEndpoint {
    /// `/completions`: the text without a chat template around it.
    Completions,
    /// `/chat/completions`
    Chat,
}

/// How tools are passed to a model in chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStyle {
    /// As the dialect's own tools.
    Native,
    /// In the prompt's text, as ReAct steps.
    React,
}

/// The fallback family, as in `config/families.toml`; a test compares the two.
impl Default for Family {
    fn default() -> Self {
        Self {
            name: GENERAL.into(),
            completion: Completion::Chat,
            completion_endpoint: None,
            context_tokens: 200_000,
            completion_tokens: 128,
            generation_tokens: 2048,
            max_tokens: Some(4096),
            temperature: Some(0.0),
            strip_reasoning: true,
            single_system: false,
            tools: ToolStyle::Native,
            prompts: vec![GENERAL.into()],
            unescape_underscores: false,
        }
    }
}

impl Family {
    /// Returns the messages as the family's chat template takes them: with `single_system`, all
    /// system messages are joined into one in front.
    pub fn arrange_messages(&self, messages: Vec<Message>) -> Vec<Message> {
        let is_system = |message: &Message| message.role == Role::System;
        if !self.single_system || messages.iter().filter(|message| is_system(message)).count() < 2 {
            return messages;
        }
        let (system, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_system);
        let parts = system.into_iter().flat_map(|message| message.parts).collect();
        std::iter::once(Message { role: Role::System, parts }).chain(others).collect()
    }
}

/// Template that contains `{prefix}` and `{suffix}`, each once, in either order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FimTemplate {
    before: Box<str>,
    between: Box<str>,
    after: Box<str>,
    suffix_first: bool,
}

/// Error of a text that is not such a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {{prefix}} and {{suffix}}, each once")]
pub struct FimTemplateError;

impl FimTemplate {
    const PREFIX: &str = "{prefix}";
    const SUFFIX: &str = "{suffix}";

    /// Parses `<PRE>{prefix}<SUF>{suffix}<MID>` and its like. Fails when a placeholder is missing
    /// or repeated.
    pub fn parse(text: &str) -> Result<Self, FimTemplateError> {
        let position_of = |placeholder| {
            let (before, after) = text.split_once(placeholder)?;
            (!after.contains(placeholder)).then_some(before.len())
        };
        let (prefix, suffix) = (
            position_of(Self::PREFIX).ok_or(FimTemplateError)?,
            position_of(Self::SUFFIX).ok_or(FimTemplateError)?,
        );
        let (first, second) = (prefix.min(suffix), prefix.max(suffix));
        // both placeholders have the same length
        let placeholder_len = Self::PREFIX.len();
        Ok(Self {
            before: text[..first].into(),
            between: text[first + placeholder_len..second].into(),
            after: text[second + placeholder_len..].into(),
            suffix_first: suffix < prefix,
        })
    }

    /// Returns the prompt that the model continues.
    pub fn render(&self, prefix: &str, suffix: &str) -> String {
        let (first, second) = if self.suffix_first { (suffix, prefix) } else { (prefix, suffix) };
        [&self.before, first, &self.between, second, &self.after].concat()
    }

    /// Returns the length of the template in bytes, without the placeholders.
    pub const fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// Returns whether the template has nothing but the placeholders.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Registry of the families of one configuration, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Families {
    general: Arc<Family>,
    named: BTreeMap<Arc<str>, Arc<Family>>,
}

/// A registry of `general` alone.
impl Default for Families {
    fn default() -> Self {
        Self { general: Arc::default(), named: BTreeMap::new() }
    }
}

impl Families {
    /// Adds a family; one of the same name is replaced.
    pub fn set(&mut self, family: Family) {
        let family = Arc::new(family);
        if &*family.name == GENERAL {
            self.general = Arc::clone(&family);
        }
        self.named.insert(Arc::clone(&family.name), family);
    }

    /// Returns the family of that name, or `None`.
    pub fn find(&self, name: &str) -> Option<&Arc<Family>> {
        self.named.get(name)
    }

    /// Returns the family of that name, or `general` for an unknown one: GitLab adds families with
    /// its releases (contract::gitlab_client §5.2).
    pub fn get(&self, name: &str) -> Arc<Family> {
        Arc::clone(self.find(name).unwrap_or(&self.general))
    }

    /// Iterates over all families, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Family>> {
        self.named.values()
    }
}

#[cfg(test)]
mod tests {
    use super::{Families, Family, FimTemplate, FimTemplateError};
    use crate::generation::{Message, Part, Role};

    #[test]
    fn templates_keep_every_byte() {
        for (text, rendered) in [
            ("<PRE> {prefix} <SUF> {suffix} <MID>", "<PRE> P <SUF> S <MID>"),
            ("[SUFFIX]{suffix}[PREFIX]{prefix}", "[SUFFIX]S[PREFIX]P"),
            ("{prefix}{suffix}", "PS"),
            ("<｜a▁b｜>{prefix}\n{suffix}", "<｜a▁b｜>P\nS"),
        ] {
            let template = FimTemplate::parse(text).unwrap();
            assert_eq!(template.render("P", "S"), rendered);
            assert_eq!(template.len(), text.len() - 16);
            assert_eq!(
                template.render("{suffix}", "").matches("{suffix}").count(),
                1,
                "code is not a template"
            );
        }
        for text in [
            "",
            "{prefix}",
            "{suffix}",
            "{prefix}{suffix}{prefix}",
            "{prefix}{suffix}{suffix}",
            "{ prefix }",
        ] {
            assert_eq!(FimTemplate::parse(text), Err(FimTemplateError), "{text}");
        }
    }

    #[test]
    fn several_system_messages_are_joined_into_one() {
        let messages = || {
            [(Role::System, "a"), (Role::User, "b"), (Role::System, "c")]
                .map(|(role, text)| Message::text(role, text))
                .to_vec()
        };
        assert_eq!(Family::default().arrange_messages(messages()), messages());
        let one = Family { single_system: true, ..Family::default() }.arrange_messages(messages());
        assert_eq!(
            one.iter().map(|message| message.role).collect::<Vec<_>>(),
            [Role::System, Role::User]
        );
        // dialects keep them apart, as blocks or by an empty line
        assert_eq!(one[0].parts, [Part::Text("a".into()), Part::Text("c".into())]);
    }

    #[test]
    fn unknown_names_fall_back_to_general() {
        let mut families = Families::default();
        assert_eq!(&*families.get("novel").name, "general");
        families.set(Family { name: "novel".into(), completion_tokens: 7, ..Family::default() });
        assert_eq!(families.get("novel").completion_tokens, 7);
        families.set(Family { completion_tokens: 9, ..Family::default() });
        assert_eq!(
            families.get("other").completion_tokens,
            9,
            "general is the operator's to change"
        );
    }
}
