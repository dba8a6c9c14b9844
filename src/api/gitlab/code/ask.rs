//! What is wanted → what the model is asked: between the family's own marks, or in words with one
//! of our prompts.

use serde_json::{Map, Value};

use super::fit;
use super::language::Language;
use super::request::{File, Generate, Snippet, Wanted};
use crate::api::gitlab::prompts;
use crate::error::GatewayError;
use crate::generation::{Generation, Message, Role, Sampling};
use crate::model::{Completion, CompletionEndpoint, Family, Fim, Model};
use crate::prompt::Registry;
use crate::provider::{Native, dialect};

/// A completion sees at most this many tokens of code: more makes every keystroke slower, not
/// better.
const MAX_VIEW: usize = 32_768;
/// The same for a generation, which is asked for once in a while.
const MAX_GENERATION_VIEW: usize = 65_536;
/// Tokens that a prompt of ours takes besides the code, and some for what the estimate misses.
const PROMPT: usize = 1024;
/// The same between marks.
const MARKS: usize = 64;
/// A window smaller than its answer still shows this much.
const MIN_VIEW: usize = 256;
const COMPLETIONS: &str = "code_suggestions/completions";
const GENERATIONS: &str = "code_suggestions/generations";

/// How a model is asked for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Marks, as a raw text.
    Raw,
    /// Marks, in a message.
    Marks,
    /// Words, in messages.
    Words,
}

/// A question, and what of the context is in it.
pub(super) struct Asked {
    pub(super) generation: Generation,
    pub(super) context: Context,
}

/// Tokens of context, estimated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    pub(super) sent: usize,
    pub(super) used: usize,
}

impl Way {
    /// A raw text where the family has marks and the server takes one: around marks a chat template
    /// puts marks of its own, which no model was trained with.
    pub(super) fn of(model: &Model) -> Self {
        let takes_raw = dialect(model.provider).native(Native::OpenAiCompletions, model).is_some();
        match (&model.family.completion, model.family.completion_endpoint) {
            (Completion::Fim(_), Some(CompletionEndpoint::Chat)) => Self::Marks,
            (Completion::Fim(_), _) if takes_raw => Self::Raw,
            (Completion::Fim(_) | Completion::Chat, _) => Self::Words,
        }
    }
}

/// Asks for the code at the cursor.
pub(super) fn completion(
    wanted: &Wanted<'_>,
    language: &Language<'_>,
    model: &Model,
    way: Way,
    registry: &Registry,
    stream: bool,
) -> Result<Asked, GatewayError> {
    let family = &*model.family;
    let own = if way == Way::Words { PROMPT } else { MARKS };
    let view = View::of(wanted, family, own + family.completion_tokens as usize, MAX_VIEW);
    let Completion::Fim(fim) = &family.completion else {
        return view.in_words(wanted, language, family, registry, stream);
    };
    match way {
        Way::Words => view.in_words(wanted, language, family, registry, stream),
        Way::Raw => {
            Ok(view
                .between_marks(fim, family, stream, |generation, text| generation.raw = Some(text)))
        }
        Way::Marks => Ok(view.between_marks(fim, family, stream, |generation, text| {
            generation.messages = vec![Message::text(Role::User, text)];
        })),
    }
}

/// What the model sees: the text above with the context before it, and the text below.
struct View<'a> {
    above: String,
    below: &'a str,
    context: Context,
}

impl<'a> View<'a> {
    /// `besides` are the tokens that the window needs for other things.
    fn of(wanted: &'a Wanted<'_>, family: &Family, besides: usize, max: usize) -> Self {
        let room = fit::bytes(room(family, besides, max));
        let (above, below) =
            fit::around(&wanted.file.content_above_cursor, &wanted.file.content_below_cursor, room);
        let left = room - above.len() - below.len();
        let before = fit::context(in_order(&wanted.context).map(|snippet| &*snippet.content), left);
        let sent = wanted.context.iter().map(|snippet| fit::tokens(snippet.content.len())).sum();
        let context = Context { sent, used: fit::tokens(before.len()) };
        Self { above: before + above, below, context }
    }

    fn between_marks(
        self,
        fim: &Fim,
        family: &Family,
        stream: bool,
        put: impl FnOnce(&mut Generation, String),
    ) -> Asked {
        let sampling = Sampling {
            max_tokens: Some(family.completion_tokens),
            temperature: family.temperature,
            stop: fim.stop.clone(),
            ..Sampling::default()
        };
        let mut generation = Generation { sampling, stream, ..Generation::default() };
        put(&mut generation, fim.template.render(&self.above, self.below));
        Asked { generation, context: self.context }
    }

    fn in_words(
        self,
        wanted: &Wanted<'_>,
        language: &Language<'_>,
        family: &Family,
        registry: &Registry,
        stream: bool,
    ) -> Result<Asked, GatewayError> {
        let mut inputs = editor(&wanted.file, language);
        inputs.insert("prefix".into(), self.above.into());
        inputs.insert("suffix".into(), self.below.into());
        let prompt =
            registry.get(COMPLETIONS, family, None).map_err(|error| prompts::missing(&error))?;
        let mut rendered =
            prompt.render(&inputs).map_err(|error| prompts::unrendered(COMPLETIONS, &error))?;
        rendered.sampling.max_tokens.get_or_insert(family.completion_tokens);
        Ok(Asked { generation: rendered.into_generation(family, stream), context: self.context })
    }
}

fn room(family: &Family, besides: usize, max: usize) -> usize {
    (family.context_tokens as usize).saturating_sub(besides).clamp(MIN_VIEW, max)
}

/// Files before snippets, each in the order it came.
fn in_order<'a>(context: &'a [Snippet<'a>]) -> impl Iterator<Item = &'a Snippet<'a>> {
    let of = |file: bool| context.iter().filter(move |snippet| snippet.is_file() == file);
    of(true).chain(of(false))
}

fn editor(file: &File<'_>, language: &Language<'_>) -> Map<String, Value> {
    let mut inputs = Map::new();
    inputs.insert("file_name".into(), file.file_name.trim().into());
    inputs.insert("language".into(), (&*language.name).into());
    inputs
}

/// Asks for code that an instruction describes.
pub(super) fn generation(
    wanted: &Wanted<'_>,
    generate: &Generate<'_>,
    language: &Language<'_>,
    family: &Family,
    registry: &Registry,
    stream: bool,
) -> Result<Asked, GatewayError> {
    if !generate.messages.is_empty() {
        let sampling = Sampling {
            max_tokens: Some(family.generation_tokens),
            temperature: family.temperature,
            ..Sampling::default()
        };
        let messages = family.arranged(generate.messages.clone());
        let generation = Generation { messages, sampling, stream, ..Generation::default() };
        return Ok(Asked { generation, context: Context::default() });
    }
    let besides = PROMPT + family.generation_tokens as usize;
    let mut left = fit::bytes(room(family, besides, MAX_GENERATION_VIEW));
    let mut inputs = editor(&wanted.file, language);
    let (above, below) =
        fit::around(&wanted.file.content_above_cursor, &wanted.file.content_below_cursor, left);
    let trimmed = |name: &str| {
        generate.enhancer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    };
    let (above, below) =
        match (trimmed("trimmed_content_above_cursor"), trimmed("trimmed_content_below_cursor")) {
            (None, None) => (above, below),
            (above, below) => {
                fit::around(above.unwrap_or_default(), below.unwrap_or_default(), left)
            }
        };
    left -= above.len() + below.len();
    inputs.insert("prefix".into(), above.into());
    inputs.insert("suffix".into(), below.into());
    if let Some(instruction) = &generate.instruction {
        inputs.insert("user_instruction".into(), (&**instruction).into());
    }
    let context = related(wanted, generate, &mut left, &mut inputs);
    let prompt = prompt_of(generate, family, registry)?;
    let mut rendered =
        prompt.1.render(&inputs).map_err(|error| prompts::unrendered(prompt.0, &error))?;
    let max_tokens = rendered.sampling.max_tokens.unwrap_or(u32::MAX).min(family.generation_tokens);
    rendered.sampling.max_tokens = Some(max_tokens);
    Ok(Asked { generation: rendered.into_generation(family, stream), context })
}

/// The prompt that the request names, else ours.
fn prompt_of<'a>(
    generate: &'a Generate<'_>,
    family: &Family,
    registry: &'a Registry,
) -> Result<(&'a str, &'a crate::prompt::Prompt), GatewayError> {
    let id = generate.prompt_id.as_deref().unwrap_or(GENERATIONS);
    let prompt = registry.get(id, family, generate.prompt_version.as_deref());
    prompt.map(|prompt| (id, prompt)).map_err(|error| prompts::missing(&error))
}

/// What GitLab's enhancer found, and the context of the request, as far as there is room for it.
fn related(
    wanted: &Wanted<'_>,
    generate: &Generate<'_>,
    left: &mut usize,
    inputs: &mut Map<String, Value>,
) -> Context {
    for (name, value) in &generate.enhancer {
        let value = match (name.as_str(), value) {
            // fitted already, as prefix and suffix
            ("trimmed_content_above_cursor" | "trimmed_content_below_cursor", _) => continue,
            ("related_files" | "related_snippets" | "examples_array", Value::Array(items)) => {
                fitting(items, left)
            }
            (_, value) => value.clone(),
        };
        inputs.insert(name.clone(), value);
    }
    let mut context = Context::default();
    for snippet in in_order(&wanted.context) {
        let text = format!(
            "<file_content file_name={:?}>\n{}\n</file_content>\n",
            snippet.name, snippet.content
        );
        context.sent += fit::tokens(text.len());
        if text.len() > *left {
            continue;
        }
        *left -= text.len();
        context.used += fit::tokens(text.len());
        let files = inputs.entry("related_files").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(files) = files {
            files.push(text.into());
        }
    }
    context
}

/// The items that there is room for, in their order.
fn fitting(items: &[Value], left: &mut usize) -> Value {
    let fits = |item: &&Value| {
        let size = item.as_str().map_or_else(|| item.to_string().len(), str::len);
        let fits = size <= *left;
        *left -= if fits { size } else { 0 };
        fits
    };
    items.iter().filter(fits).cloned().collect()
}
