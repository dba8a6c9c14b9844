//! Parses the bodies of the code calls. Limits are the official gateway's
//! (contract::ai_gateway_server §1.3, §1.4); lengths are counted in characters, and every fault is
//! reported with its path.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::CodeCall;
use crate::api::body;
use crate::error::{BodyFault, GatewayError};
use crate::generation::{Message, Role};
use crate::route::{Feature, ModelMetadata, RawModelMetadata};

/// Longest name of a file, language, project or model, in characters.
const MAX_NAME: usize = 255;
/// Longest text above or below the cursor, and longest context item of v3 and v4, in characters.
const MAX_CONTENT: usize = 100_000;
/// Most faults that are reported: more would not help, and a list of a million wrong items would
/// otherwise make a gigabyte of them.
const MAX_FAULTS: usize = 100;

/// The fields that routing needs. The rest of the body is parsed after routing: a request that is
/// forwarded to another gateway is validated there.
pub(super) struct CodeRouting {
    pub(super) feature: Feature,
    pub(super) stream: bool,
    pub(super) metadata: Option<ModelMetadata>,
}

/// The body of a code call, in the same form for every version.
pub(super) struct CodeRequest<'a> {
    pub(super) file: EditorFile<'a>,
    pub(super) context: Vec<ContextSnippet<'a>>,
    /// `None` for a completion.
    pub(super) generation: Option<GenerationInput<'a>>,
}

/// The file in the editor, split at the cursor.
#[derive(Deserialize)]
pub(super) struct EditorFile<'a> {
    #[serde(borrow)]
    pub(super) file_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) language_identifier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content_above_cursor: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content_below_cursor: Cow<'a, str>,
}

/// Context from another part of the project.
#[derive(Deserialize)]
pub(super) struct ContextSnippet<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content: Cow<'a, str>,
}

impl ContextSnippet<'_> {
    /// Returns whether this is a whole file, which is used before snippets.
    pub(super) fn is_file(&self) -> bool {
        self.kind == "file"
    }
}

/// What a generation needs in addition to the file.
#[derive(Default)]
pub(super) struct GenerationInput<'a> {
    pub(super) prompt_id: Option<Cow<'a, str>>,
    pub(super) prompt_version: Option<Cow<'a, str>>,
    /// Inputs of the prompt, prepared by GitLab's prompt enhancer.
    pub(super) enhancer: Map<String, Value>,
    /// The developer's instruction.
    pub(super) instruction: Option<Cow<'a, str>>,
    /// A prompt of the client's own, used instead of ours. Empty if there is none.
    pub(super) messages: Vec<Message>,
}

/// The fields of a v2 body that routing needs.
#[derive(Deserialize)]
struct FlatRouting<'a> {
    stream: Option<bool>,
    #[serde(borrow)]
    model_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_endpoint: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_api_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_identifier: Option<Cow<'a, str>>,
}

/// The fields of a v3 or v4 body that routing needs.
#[derive(Deserialize)]
struct ComponentsRouting<'a> {
    #[serde(borrow)]
    prompt_components: Vec<ComponentRouting<'a>>,
    #[serde(borrow)]
    model_metadata: Option<RawModelMetadata<'a>>,
}

#[derive(Deserialize)]
struct ComponentRouting<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    payload: Option<StreamFlag>,
}

#[derive(Deserialize)]
struct StreamFlag {
    stream: Option<bool>,
}

impl CodeRouting {
    /// Parses the fields from the body of a call of any version.
    pub(super) fn parse(call: CodeCall, bytes: &[u8]) -> Result<Self, GatewayError> {
        let invalid = |fault| GatewayError::invalid(vec![fault]);
        let Some(feature) = call.feature() else {
            let routing: ComponentsRouting<'_> = body::parse(bytes)?;
            let Some(first) = routing.prompt_components.first() else {
                return Err(invalid(BodyFault::at(
                    "prompt_components",
                    "too_short",
                    "1 to 100 components are expected",
                )));
            };
            let feature = match &*first.kind {
                "code_editor_completion" => Feature::CODE_COMPLETIONS,
                "code_editor_generation" => Feature::CODE_GENERATIONS,
                _ => {
                    let msg =
                        "the first component is code_editor_completion or code_editor_generation";
                    return Err(invalid(fault(
                        &["prompt_components", "0", "type"],
                        "value_error",
                        msg,
                    )));
                }
            };
            let stream = first.payload.as_ref().and_then(|payload| payload.stream).unwrap_or(false);
            let raw = routing.model_metadata.unwrap_or_default();
            let metadata = ModelMetadata::parse(&raw, &["model_metadata"]).map_err(invalid)?;
            return Ok(Self { feature, stream, metadata });
        };
        let routing: FlatRouting<'_> = body::parse(bytes)?;
        let raw = RawModelMetadata {
            name: routing.model_name,
            endpoint: routing.model_endpoint,
            api_key: routing.model_api_key,
            identifier: routing.model_identifier,
        };
        let metadata = ModelMetadata::parse_flat(&raw, &[]).map_err(invalid)?;
        Ok(Self { feature, stream: routing.stream.unwrap_or(false), metadata })
    }
}

impl<'a> CodeRequest<'a> {
    /// Parses the whole body of a call; fails with every fault found, at most [`MAX_FAULTS`].
    pub(super) fn parse(call: CodeCall, bytes: &'a [u8]) -> Result<Self, GatewayError> {
        match call {
            CodeCall::Completion => parse_flat(bytes, false),
            CodeCall::Generation => parse_flat(bytes, true),
            CodeCall::Suggestion | CodeCall::SuggestionEvents => parse_components(bytes),
        }
    }
}

/// The body of a v2 call.
#[derive(Deserialize)]
struct FlatBody<'a> {
    prompt_version: Option<i64>,
    #[serde(borrow)]
    project_path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    current_file: EditorFile<'a>,
    #[serde(borrow)]
    model_name: Option<Cow<'a, str>>,
    telemetry: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    context: Option<Vec<ContextSnippet<'a>>>,
    #[serde(borrow)]
    prompt_id: Option<Cow<'a, str>>,
    prompt: Option<Value>,
}

/// Parses the body of `/v2/code/completions` or `/v2/code/generations`. A prompt of the client's
/// own is used for generations only: the form of a completion's prompt depends on the model.
fn parse_flat(bytes: &[u8], generates: bool) -> Result<CodeRequest<'_>, GatewayError> {
    let mut body: FlatBody<'_> = body::parse(bytes)?;
    let mut faults = Faults::default();
    let version = body.prompt_version.unwrap_or(1);
    if !(1..=3).contains(&version) {
        faults.add(&["prompt_version"], "value_error", "1, 2 or 3 is expected");
    }
    faults.check_length(&["project_path"], body.project_path.as_deref(), MAX_NAME);
    faults.check_length(&["model_name"], body.model_name.as_deref(), 50);
    faults.check_count("telemetry", body.telemetry.as_ref().map_or(0, Vec::len), 10);
    faults.check_file(&["current_file"], &body.current_file);
    let context = body.context.unwrap_or_default();
    faults.check_count("context", context.len(), 100);
    for (index, item) in context.iter().enumerate() {
        faults.check_snippet(&["context", &index.to_string()], item, 500_000);
    }
    let prompt = body.prompt.take().filter(|_| generates);
    let mut generation =
        GenerationInput { prompt_id: body.prompt_id, ..GenerationInput::default() };
    match prompt {
        Some(Value::Array(items)) if version == 3 => {
            generation.messages = faults.parse_messages(&items);
        }
        Some(Value::String(text)) if version < 3 => {
            generation.instruction =
                Some(text).filter(|text| !text.trim().is_empty()).map(Cow::Owned);
        }
        Some(_) if version == 3 => {
            faults.add(&["prompt"], "type_error", "a list of {role, content} is expected")
        }
        Some(_) => faults.add(&["prompt"], "type_error", "a string is expected"),
        None => {}
    }
    faults.into_result()?;
    let generation = generates.then_some(generation);
    Ok(CodeRequest { file: body.current_file, context, generation })
}

/// The body of a v3 or v4 call.
#[derive(Deserialize)]
struct ComponentsBody<'a> {
    #[serde(borrow)]
    prompt_components: Vec<Component<'a>>,
}

#[derive(Deserialize)]
struct Component<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: ComponentPayload<'a>,
}

/// The payload of any component; which fields are required depends on its type.
#[derive(Deserialize)]
struct ComponentPayload<'a> {
    #[serde(borrow)]
    file_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content_above_cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content_below_cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    language_identifier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prompt_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prompt_version: Option<Cow<'a, str>>,
    prompt_enhancer: Option<Map<String, Value>>,
    prompt: Option<Value>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
}

/// Parses the body of `/v3/code/completions` or `/v4/code/suggestions`.
fn parse_components(bytes: &[u8]) -> Result<CodeRequest<'_>, GatewayError> {
    let body: ComponentsBody<'_> = body::parse(bytes)?;
    let mut faults = Faults::default();
    faults.check_count("prompt_components", body.prompt_components.len(), 100);
    let (mut editor, mut context) = (None, Vec::new());
    for (index, component) in body.prompt_components.into_iter().enumerate() {
        let index = index.to_string();
        let path = ["prompt_components", index.as_str(), "payload"];
        let payload = component.payload;
        match &*component.kind {
            "code_context" => {
                let snippet = ContextSnippet {
                    kind: faults.required(&path, "type", payload.kind),
                    name: faults.required(&path, "name", payload.name),
                    content: faults.required(&path, "content", payload.content),
                };
                faults.check_snippet(&path, &snippet, MAX_CONTENT);
                context.push(snippet);
            }
            "code_editor_completion" | "code_editor_generation" => {
                let generates = component.kind == "code_editor_generation";
                let parsed = parse_editor(payload, generates, &path, &mut faults);
                editor.get_or_insert(parsed);
            }
            _ => {
                let msg =
                    "code_editor_completion, code_editor_generation or code_context is expected";
                faults.add(&["prompt_components", &index, "type"], "value_error", msg);
            }
        }
    }
    faults.into_result()?;
    let Some((file, generation)) = editor else {
        let msg = "a code_editor component is expected";
        return Err(GatewayError::invalid(vec![BodyFault::at(
            "prompt_components",
            "value_error",
            msg,
        )]));
    };
    Ok(CodeRequest { file, context, generation })
}

/// Converts an editor component; missing fields and lengths are added to `faults`.
fn parse_editor<'a>(
    payload: ComponentPayload<'a>,
    generates: bool,
    path: &[&str],
    faults: &mut Faults,
) -> (EditorFile<'a>, Option<GenerationInput<'a>>) {
    let file = EditorFile {
        file_name: faults.required(path, "file_name", payload.file_name),
        language_identifier: payload.language_identifier,
        content_above_cursor: faults.required(
            path,
            "content_above_cursor",
            payload.content_above_cursor,
        ),
        content_below_cursor: faults.required(
            path,
            "content_below_cursor",
            payload.content_below_cursor,
        ),
    };
    faults.check_file(path, &file);
    if !generates {
        return (file, None);
    }
    let prompt = payload.prompt.as_ref().and_then(Value::as_str);
    faults.check_length(&[path, &["prompt"]].concat(), prompt, 400_000);
    let generation = GenerationInput {
        prompt_id: payload.prompt_id,
        prompt_version: payload.prompt_version,
        enhancer: payload.prompt_enhancer.unwrap_or_default(),
        instruction: prompt
            .filter(|text| !text.trim().is_empty())
            .map(|text| Cow::Owned(text.to_owned())),
        messages: Vec::new(),
    };
    (file, Some(generation))
}

/// The faults of a body, at most [`MAX_FAULTS`].
#[derive(Default)]
struct Faults {
    found: Vec<BodyFault>,
}

impl Faults {
    /// Adds a fault, unless there are enough already.
    fn add(&mut self, path: &[&str], kind: &'static str, msg: impl Into<String>) {
        if self.found.len() < MAX_FAULTS {
            self.found.push(fault(path, kind, msg));
        }
    }

    /// Returns the value of a required field; an empty text and a fault if it is missing.
    fn required<'a>(
        &mut self,
        path: &[&str],
        field: &str,
        value: Option<Cow<'a, str>>,
    ) -> Cow<'a, str> {
        value.unwrap_or_else(|| {
            self.add(&[path, &[field]].concat(), "missing", "Field required");
            Cow::Borrowed("")
        })
    }

    /// Adds a fault if the text has more than `max` characters.
    fn check_length(&mut self, path: &[&str], text: Option<&str>, max: usize) {
        // no text has more characters than bytes
        if text.is_some_and(|text| text.len() > max && text.chars().count() > max) {
            self.add(path, "string_too_long", format!("at most {max} characters are expected"));
        }
    }

    /// Adds a fault if a list has more than `max` items.
    fn check_count(&mut self, field: &'static str, found: usize, max: usize) {
        if found > max {
            self.add(&[field], "too_long", format!("at most {max} are expected, not {found}"));
        }
    }

    fn check_file(&mut self, path: &[&str], file: &EditorFile<'_>) {
        let field_path = |field| [path, &[field]].concat();
        self.check_length(&field_path("file_name"), Some(file.file_name.trim()), MAX_NAME);
        self.check_length(
            &field_path("language_identifier"),
            file.language_identifier.as_deref(),
            MAX_NAME,
        );
        self.check_length(
            &field_path("content_above_cursor"),
            Some(&file.content_above_cursor),
            MAX_CONTENT,
        );
        self.check_length(
            &field_path("content_below_cursor"),
            Some(&file.content_below_cursor),
            MAX_CONTENT,
        );
    }

    fn check_snippet(&mut self, path: &[&str], snippet: &ContextSnippet<'_>, max: usize) {
        let field_path = |field| [path, &[field]].concat();
        self.check_length(&field_path("type"), Some(&snippet.kind), 1024);
        self.check_length(&field_path("name"), Some(&snippet.name), 1024);
        self.check_length(&field_path("content"), Some(&snippet.content), max);
    }

    /// Converts a list of `{role, content}`; adds a fault for every item that is none.
    fn parse_messages(&mut self, items: &[Value]) -> Vec<Message> {
        let mut messages = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let role =
                item["role"].as_str().and_then(Role::parse).filter(|role| *role != Role::Tool);
            match (role, item["content"].as_str()) {
                (Some(role), Some(text)) => messages.push(Message::text(role, text)),
                _ => {
                    let msg = "{role: system, user or assistant, content: a string} is expected";
                    self.add(&["prompt", &index.to_string()], "value_error", msg);
                }
            }
        }
        messages
    }

    /// Returns an error with all faults, or `Ok` if there are none.
    fn into_result(self) -> Result<(), GatewayError> {
        if self.found.is_empty() { Ok(()) } else { Err(GatewayError::invalid(self.found)) }
    }
}

/// Creates a fault at a path below the body.
fn fault(path: &[&str], kind: &'static str, msg: impl Into<String>) -> BodyFault {
    let loc = std::iter::once("body")
        .chain(path.iter().copied())
        .map(|part| Cow::Owned(part.to_owned()))
        .collect();
    BodyFault { loc, msg: msg.into(), kind }
}
