//! Builds the request to the model from a code request: the code between the FIM tokens of the
//! model's family, or one of our prompts with the code in it.

use serde_json::{Map, Value};

use super::language::Language;
use super::prompt_window::{self, PromptWindow};
use super::request::{CodeRequest, ContextSnippet, EditorFile, GenerationInput};
use crate::api::gitlab::prompts;
use crate::error::GatewayError;
use crate::generation::{Generation, Message, Role, Sampling};
use crate::model::{Completion, CompletionEndpoint, Family, Fim, Model};
use crate::prompt::{Prompt, PromptRegistry};
use crate::provider::{NativeCall, dialect};

/// Most tokens of code in a completion's prompt: more makes every keystroke slower, not better.
const MAX_COMPLETION_WINDOW: usize = 32_768;
/// The same for a generation, which developers request once in a while only.
const MAX_GENERATION_WINDOW: usize = 65_536;
/// Tokens reserved for the text of one of our prompts, and some for the estimate's error.
const PROMPT_RESERVE: usize = 1024;
/// The same for FIM tokens.
const FIM_RESERVE: usize = 64;
/// Fewest tokens of code, even where the model's window is smaller than its response.
const MIN_WINDOW: usize = 256;
/// The id of the prompt for completions.
const COMPLETIONS: &str = "code_suggestions/completions";
/// The id of the prompt for generations that name none.
const GENERATIONS: &str = "code_suggestions/generations";

/// The form of the prompt for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompletionPrompt {
    /// The code between FIM tokens, as raw text.
    Fim,
    /// The code between FIM tokens, as the text of one chat message.
    ChatFim,
    /// An instruction to complete the code, as chat messages.
    Instruct,
}

/// A request to a model, and how much of the client's context it contains.
pub(super) struct CodePrompt {
    pub(super) generation: Generation,
    pub(super) context: ContextTokens,
}

/// Estimated tokens of the context.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContextTokens {
    /// In the client's request.
    pub(super) sent: usize,
    /// In the prompt.
    pub(super) used: usize,
}

/// What a prompt is built from.
pub(super) struct CodePromptBuilder<'a> {
    pub(super) request: &'a CodeRequest<'a>,
    pub(super) language: &'a Language<'a>,
    pub(super) family: &'a Family,
    pub(super) registry: &'a PromptRegistry,
    pub(super) stream: bool,
}

impl CompletionPrompt {
    /// Returns the form for a model: raw text where the family has FIM tokens and the server has
    /// `/completions`. A chat template would add its own tokens around the FIM tokens, and no model
    /// was trained with that combination.
    pub(super) fn for_model(model: &Model) -> Self {
        let has_completions =
            dialect(model.provider).native_path(NativeCall::OpenAiCompletions, model).is_some();
        match (&model.family.completion, model.family.completion_endpoint) {
            (Completion::Fim(_), Some(CompletionEndpoint::Chat)) => Self::ChatFim,
            (Completion::Fim(_), _) if has_completions => Self::Fim,
            (Completion::Fim(_) | Completion::Chat, _) => Self::Instruct,
        }
    }

    /// Returns the tokens that the prompt needs in addition to the code.
    const fn reserved_tokens(self) -> usize {
        match self {
            Self::Fim | Self::ChatFim => FIM_RESERVE,
            Self::Instruct => PROMPT_RESERVE,
        }
    }
}

impl CodePromptBuilder<'_> {
    /// Builds the prompt for the code at the cursor. Fails if the registry's prompt is missing or
    /// cannot be rendered.
    pub(super) fn completion(&self, form: CompletionPrompt) -> Result<CodePrompt, GatewayError> {
        let reserved_tokens = form.reserved_tokens() + self.family.completion_tokens as usize;
        let max_bytes = window_bytes(self.family, reserved_tokens, MAX_COMPLETION_WINDOW);
        let window = self.window(max_bytes);
        match (form, &self.family.completion) {
            (CompletionPrompt::Fim, Completion::Fim(fim)) => {
                let put = |generation: &mut Generation, text| generation.raw_prompt = Some(text);
                Ok(self.fim(&window, fim, put))
            }
            (CompletionPrompt::ChatFim, Completion::Fim(fim)) => {
                let put = |generation: &mut Generation, text: String| {
                    generation.messages = vec![Message::text(Role::User, text)];
                };
                Ok(self.fim(&window, fim, put))
            }
            (CompletionPrompt::Instruct, _) | (_, Completion::Chat) => self.instruct(window),
        }
    }

    /// Returns the code around the cursor and the context that fit into `max_bytes`.
    fn window(&self, max_bytes: usize) -> PromptWindow<'_> {
        let file = &self.request.file;
        let context = files_first(&self.request.context).map(|snippet| &*snippet.content);
        PromptWindow::new(
            &file.content_above_cursor,
            &file.content_below_cursor,
            context,
            max_bytes,
        )
    }

    fn context_tokens(&self, window: &PromptWindow<'_>) -> ContextTokens {
        let sizes = self.request.context.iter().map(|snippet| snippet.content.len());
        let sent = sizes.map(prompt_window::estimate_tokens).sum();
        ContextTokens { sent, used: window.context_tokens }
    }

    /// Renders the window between FIM tokens; `put` stores the text in the generation.
    fn fim(
        &self,
        window: &PromptWindow<'_>,
        fim: &Fim,
        put: impl FnOnce(&mut Generation, String),
    ) -> CodePrompt {
        let sampling = Sampling {
            max_tokens: Some(self.family.completion_tokens),
            temperature: self.family.temperature,
            stop: fim.stop.clone(),
            ..Sampling::default()
        };
        let mut generation = Generation { sampling, stream: self.stream, ..Generation::default() };
        put(&mut generation, fim.template.render(&window.above, window.below));
        CodePrompt { generation, context: self.context_tokens(window) }
    }

    /// Renders the window into our prompt for completions.
    fn instruct(&self, window: PromptWindow<'_>) -> Result<CodePrompt, GatewayError> {
        let context = self.context_tokens(&window);
        let mut inputs = file_inputs(&self.request.file, self.language);
        inputs.insert("prefix".into(), window.above.into());
        inputs.insert("suffix".into(), window.below.into());
        let prompt = self
            .registry
            .get(COMPLETIONS, self.family, None)
            .map_err(|error| prompts::missing_prompt(&error))?;
        let mut rendered =
            prompt.render(&inputs).map_err(|error| prompts::render_failed(COMPLETIONS, &error))?;
        rendered.sampling.max_tokens.get_or_insert(self.family.completion_tokens);
        Ok(CodePrompt { generation: rendered.into_generation(self.family, self.stream), context })
    }

    /// Builds the prompt for code that an instruction describes. Fails if the registry's prompt is
    /// missing or cannot be rendered.
    pub(super) fn generation(
        &self,
        input: &GenerationInput<'_>,
    ) -> Result<CodePrompt, GatewayError> {
        if !input.messages.is_empty() {
            return Ok(self.client_prompt(&input.messages));
        }
        let reserved_tokens = PROMPT_RESERVE + self.family.generation_tokens as usize;
        let mut room = window_bytes(self.family, reserved_tokens, MAX_GENERATION_WINDOW);
        let mut inputs = file_inputs(&self.request.file, self.language);
        let (above, below) = self.around_cursor(input, room);
        room -= above.len() + below.len();
        inputs.insert("prefix".into(), above.into());
        inputs.insert("suffix".into(), below.into());
        if let Some(instruction) = &input.instruction {
            inputs.insert("user_instruction".into(), (&**instruction).into());
        }
        let context = add_context(self.request, input, room, &mut inputs);
        let (id, prompt) = self.generation_prompt(input)?;
        let mut rendered =
            prompt.render(&inputs).map_err(|error| prompts::render_failed(id, &error))?;
        let requested = rendered.sampling.max_tokens.unwrap_or(u32::MAX);
        rendered.sampling.max_tokens = Some(requested.min(self.family.generation_tokens));
        Ok(CodePrompt { generation: rendered.into_generation(self.family, self.stream), context })
    }

    /// Builds the prompt from the messages that the client wrote.
    fn client_prompt(&self, messages: &[Message]) -> CodePrompt {
        let sampling = Sampling {
            max_tokens: Some(self.family.generation_tokens),
            temperature: self.family.temperature,
            ..Sampling::default()
        };
        let messages = self.family.arrange_messages(messages.to_vec());
        let generation =
            Generation { messages, sampling, stream: self.stream, ..Generation::default() };
        CodePrompt { generation, context: ContextTokens::default() }
    }

    /// Returns the text around the cursor in `room` bytes: what GitLab's enhancer has trimmed if it
    /// has, else the file's.
    fn around_cursor<'a>(
        &'a self,
        input: &'a GenerationInput<'_>,
        room: usize,
    ) -> (&'a str, &'a str) {
        let trimmed = |name: &str| {
            input.enhancer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        let (above, below) = match (
            trimmed("trimmed_content_above_cursor"),
            trimmed("trimmed_content_below_cursor"),
        ) {
            (None, None) => {
                let file = &self.request.file;
                (&*file.content_above_cursor, &*file.content_below_cursor)
            }
            (above, below) => (above.unwrap_or_default(), below.unwrap_or_default()),
        };
        prompt_window::truncate_around(above, below, room)
    }

    /// Returns id and prompt: the one that the request names, else ours.
    fn generation_prompt<'a>(
        &'a self,
        input: &'a GenerationInput<'_>,
    ) -> Result<(&'a str, &'a Prompt), GatewayError> {
        let id = input.prompt_id.as_deref().unwrap_or(GENERATIONS);
        let prompt = self.registry.get(id, self.family, input.prompt_version.as_deref());
        prompt.map(|prompt| (id, prompt)).map_err(|error| prompts::missing_prompt(&error))
    }
}

/// Returns the bytes of code that certainly fit into the model's window next to `reserved_tokens`,
/// at most those of `max_tokens`.
fn window_bytes(family: &Family, reserved_tokens: usize, max_tokens: usize) -> usize {
    let tokens = (family.context_tokens as usize).saturating_sub(reserved_tokens);
    prompt_window::bytes_within(tokens.clamp(MIN_WINDOW, max_tokens))
}

/// Returns whole files before snippets, each group in the client's order.
fn files_first<'a>(
    context: &'a [ContextSnippet<'a>],
) -> impl Iterator<Item = &'a ContextSnippet<'a>> {
    let group = |files: bool| context.iter().filter(move |snippet| snippet.is_file() == files);
    group(true).chain(group(false))
}

/// Returns the prompt inputs that describe the file.
fn file_inputs(file: &EditorFile<'_>, language: &Language<'_>) -> Map<String, Value> {
    let mut inputs = Map::new();
    inputs.insert("file_name".into(), file.file_name.trim().into());
    inputs.insert("language".into(), (&*language.name).into());
    inputs
}

/// Adds the enhancer's inputs and the request's context to the prompt's inputs. Items that no
/// longer fit into `room` bytes are skipped.
fn add_context(
    request: &CodeRequest<'_>,
    input: &GenerationInput<'_>,
    mut room: usize,
    inputs: &mut Map<String, Value>,
) -> ContextTokens {
    for (name, value) in &input.enhancer {
        let value = match (name.as_str(), value) {
            // already in the inputs, as prefix and suffix
            ("trimmed_content_above_cursor" | "trimmed_content_below_cursor", _) => continue,
            ("related_files" | "related_snippets" | "examples_array", Value::Array(items)) => {
                take_fitting(items, &mut room)
            }
            (_, value) => value.clone(),
        };
        inputs.insert(name.clone(), value);
    }
    let mut tokens = ContextTokens::default();
    for snippet in files_first(&request.context) {
        let text = format!(
            "<file_content file_name={:?}>\n{}\n</file_content>\n",
            snippet.name, snippet.content
        );
        tokens.sent += prompt_window::estimate_tokens(text.len());
        if text.len() > room {
            continue;
        }
        room -= text.len();
        tokens.used += prompt_window::estimate_tokens(text.len());
        let files = inputs.entry("related_files").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(files) = files {
            files.push(text.into());
        }
    }
    tokens
}

/// Returns the items that fit into `room` bytes, in their order, and takes their size off `room`.
fn take_fitting(items: &[Value], room: &mut usize) -> Value {
    let fits = |item: &&Value| {
        let size = item.as_str().map_or_else(|| item.to_string().len(), str::len);
        let fits = size <= *room;
        *room -= if fits { size } else { 0 };
        fits
    };
    items.iter().filter(fits).cloned().collect()
}
