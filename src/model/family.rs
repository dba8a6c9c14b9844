//! Model families: how a kind of model likes to be asked. Data, not code: `config/families.toml`
//! has GitLab's families (gitlab-client.md §5.2) and some more, and an operator's
//! `[families.<name>]` goes over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::generation::{Message, Role};

/// The family of everything that has none of its own.
const GENERAL: &str = "general";

/// One family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name in GitLab's requests and in the file.
    pub name: Arc<str>,
    /// How code is completed.
    pub completion: Completion,
    /// Which call of the model server completes code, if somebody has said.
    pub completion_endpoint: Option<CompletionEndpoint>,
    /// Tokens of the model's window, question and answer together.
    pub context_tokens: u32,
    /// At most this many tokens for a completion.
    pub completion_tokens: u32,
    /// At most this many tokens for generated code.
    pub generation_tokens: u32,
    /// At most this many tokens for other answers; `None` leaves it to the model server.
    pub max_tokens: Option<u32>,
    /// 0 is greedy; `None` sends none, for models that refuse one.
    pub temperature: Option<f64>,
    /// Whether its answers may hold `<think>` blocks.
    pub strip_reasoning: bool,
    /// Whether its chat template takes one system message only, the first.
    pub single_system: bool,
    /// How it is given tools in chat.
    pub tools: ToolStyle,
    /// Folders of prompts in the order they are searched; `base` follows.
    pub prompts: Vec<Box<str>>,
    /// Whether it writes `\_` where code has `_`.
    pub unescape_underscores: bool,
}

/// How code is completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// By asking for it in words.
    Chat,
    /// Between marks that the model was trained with.
    Fim(Fim),
}

/// Fill-in-the-middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fim {
    /// Where prefix and suffix go.
    pub template: FimTemplate,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// Which call of the model server completes code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionEndpoint {
    /// `/completions`: the text as it is, no chat template around it.
    Completions,
    /// `/chat/completions`
    Chat,
}

/// How a model is given tools in chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStyle {
    /// By the dialect's own tools.
    Native,
    /// In the text, as ReAct steps.
    React,
}

/// The fallback, as `config/families.toml` has it; a test holds the two together.
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
    /// Messages as its chat template takes them.
    pub fn arranged(&self, messages: Vec<Message>) -> Vec<Message> {
        let is_system = |message: &Message| message.role == Role::System;
        if !self.single_system || messages.iter().filter(|message| is_system(message)).count() < 2 {
            return messages;
        }
        let (system, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_system);
        let parts = system.into_iter().flat_map(|message| message.parts).collect();
        std::iter::once(Message { role: Role::System, parts }).chain(others).collect()
    }
}

/// A text with `{prefix}` and `{suffix}` in it, each once, in either order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FimTemplate {
    before: Box<str>,
    between: Box<str>,
    after: Box<str>,
    suffix_first: bool,
}

/// Why a text is not such a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {{prefix}} and {{suffix}}, each once")]
pub struct FimTemplateError;

impl FimTemplate {
    const PREFIX: &str = "{prefix}";
    const SUFFIX: &str = "{suffix}";

    /// Parses `<PRE>{prefix}<SUF>{suffix}<MID>` and its like.
    pub fn parse(text: &str) -> Result<Self, FimTemplateError> {
        let once = |mark| {
            let (before, after) = text.split_once(mark)?;
            (!after.contains(mark)).then_some(before.len())
        };
        let (prefix, suffix) = (
            once(Self::PREFIX).ok_or(FimTemplateError)?,
            once(Self::SUFFIX).ok_or(FimTemplateError)?,
        );
        let (first, second) = (prefix.min(suffix), prefix.max(suffix));
        // the two marks are of one length
        let mark = Self::PREFIX.len();
        Ok(Self {
            before: text[..first].into(),
            between: text[first + mark..second].into(),
            after: text[second + mark..].into(),
            suffix_first: suffix < prefix,
        })
    }

    /// The text that the model goes on with.
    pub fn render(&self, prefix: &str, suffix: &str) -> String {
        let (first, second) = if self.suffix_first { (suffix, prefix) } else { (prefix, suffix) };
        [&self.before, first, &self.between, second, &self.after].concat()
    }

    /// Bytes of its own.
    pub const fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// Whether it has no marks of its own.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The families of one configuration, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Families {
    general: Arc<Family>,
    named: BTreeMap<Arc<str>, Arc<Family>>,
}

/// `general` and nothing else.
impl Default for Families {
    fn default() -> Self {
        Self { general: Arc::default(), named: BTreeMap::new() }
    }
}

impl Families {
    /// Adds a family, or puts it in the place of the one of its name.
    pub fn set(&mut self, family: Family) {
        let family = Arc::new(family);
        if &*family.name == GENERAL {
            self.general = Arc::clone(&family);
        }
        self.named.insert(Arc::clone(&family.name), family);
    }

    /// The family of that name, if it is one.
    pub fn find(&self, name: &str) -> Option<&Arc<Family>> {
        self.named.get(name)
    }

    /// The family of that name, else `general`: GitLab adds families with its releases
    /// (gitlab-client.md §5.2).
    pub fn get(&self, name: &str) -> Arc<Family> {
        Arc::clone(self.find(name).unwrap_or(&self.general))
    }

    /// All of them, by name.
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
    fn one_system_message_is_made_of_several() {
        let asked = || vec![(Role::System, "a"), (Role::User, "b"), (Role::System, "c")];
        let asked = || {
            asked().into_iter().map(|(role, text)| Message::text(role, text)).collect::<Vec<_>>()
        };
        assert_eq!(Family::default().arranged(asked()), asked());
        let one = Family { single_system: true, ..Family::default() }.arranged(asked());
        assert_eq!(
            one.iter().map(|message| message.role).collect::<Vec<_>>(),
            [Role::System, Role::User]
        );
        // dialects keep them apart, as blocks or by an empty line
        assert_eq!(one[0].parts, [Part::Text("a".into()), Part::Text("c".into())]);
    }

    #[test]
    fn unknown_names_are_general() {
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
