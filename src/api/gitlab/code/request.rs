//! The bodies of the code calls → what is wanted. Limits are the official gateway's
//! (ai-gateway-server.md §1.3, §1.4); lengths are counted in characters, and every fault is told
//! with its place.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::CodeCall;
use crate::api::body;
use crate::error::{BodyFault, GatewayError};
use crate::generation::{Message, Role};
use crate::route::{Feature, Metadata, RawMetadata};

const MAX_NAME: usize = 255;
const MAX_CONTENT: usize = 100_000;
/// More faults than this help nobody; a list of a million wrong items would be a gigabyte of them.
const MAX_FAULTS: usize = 100;

/// What routing needs of a body; the rest of it may be another gateway's to judge.
pub(super) struct Head {
    pub(super) feature: Feature,
    pub(super) stream: bool,
    pub(super) metadata: Option<Metadata>,
}

/// What is wanted.
pub(super) struct Wanted<'a> {
    pub(super) file: File<'a>,
    pub(super) context: Vec<Snippet<'a>>,
    /// `None` for a completion.
    pub(super) generation: Option<Generate<'a>>,
}

/// The file and the cursor in it.
#[derive(Deserialize)]
pub(super) struct File<'a> {
    #[serde(borrow)]
    pub(super) file_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) language_identifier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content_above_cursor: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content_below_cursor: Cow<'a, str>,
}

/// Text from elsewhere in the project.
#[derive(Deserialize)]
pub(super) struct Snippet<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content: Cow<'a, str>,
}

impl Snippet<'_> {
    /// Whole files before snippets.
    pub(super) fn is_file(&self) -> bool {
        self.kind == "file"
    }
}

/// How code is generated.
#[derive(Default)]
pub(super) struct Generate<'a> {
    pub(super) prompt_id: Option<Cow<'a, str>>,
    pub(super) prompt_version: Option<Cow<'a, str>>,
    /// Inputs of the prompt that GitLab prepared.
    pub(super) enhancer: Map<String, Value>,
    /// What the developer asked for.
    pub(super) instruction: Option<Cow<'a, str>>,
    /// A prompt that the caller wrote itself; then ours is not used.
    pub(super) messages: Vec<Message>,
}

#[derive(Deserialize)]
struct FlatHead<'a> {
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

#[derive(Deserialize)]
struct ComponentsHead<'a> {
    #[serde(borrow)]
    prompt_components: Vec<ComponentHead<'a>>,
    #[serde(borrow)]
    model_metadata: Option<RawMetadata<'a>>,
}

#[derive(Deserialize)]
struct ComponentHead<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    payload: Option<StreamOnly>,
}

#[derive(Deserialize)]
struct StreamOnly {
    stream: Option<bool>,
}

impl Head {
    /// Reads it, whichever form the call has.
    pub(super) fn of(call: CodeCall, bytes: &[u8]) -> Result<Self, GatewayError> {
        let invalid = |fault| GatewayError::invalid(vec![fault]);
        let Some(feature) = call.feature() else {
            let head: ComponentsHead<'_> = body::parse(bytes)?;
            let Some(first) = head.prompt_components.first() else {
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
            let raw = head.model_metadata.unwrap_or_default();
            let metadata = Metadata::check(&raw, &["model_metadata"]).map_err(invalid)?;
            return Ok(Self { feature, stream, metadata });
        };
        let head: FlatHead<'_> = body::parse(bytes)?;
        let raw = RawMetadata {
            name: head.model_name,
            endpoint: head.model_endpoint,
            api_key: head.model_api_key,
            identifier: head.model_identifier,
        };
        let metadata = Metadata::check_flat(&raw, &[]).map_err(invalid)?;
        Ok(Self { feature, stream: head.stream.unwrap_or(false), metadata })
    }
}

impl<'a> Wanted<'a> {
    /// Reads the whole body of a call.
    pub(super) fn of(call: CodeCall, bytes: &'a [u8]) -> Result<Self, GatewayError> {
        match call {
            CodeCall::Completion => flat(bytes, false),
            CodeCall::Generation => flat(bytes, true),
            CodeCall::Suggestion | CodeCall::SuggestionEvents => components(bytes),
        }
    }
}

#[derive(Deserialize)]
struct Flat<'a> {
    prompt_version: Option<i64>,
    #[serde(borrow)]
    project_path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    current_file: File<'a>,
    #[serde(borrow)]
    model_name: Option<Cow<'a, str>>,
    telemetry: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    context: Option<Vec<Snippet<'a>>>,
    #[serde(borrow)]
    prompt_id: Option<Cow<'a, str>>,
    prompt: Option<Value>,
}

/// `/v2/code/completions` and `/v2/code/generations`. A prompt of the caller's counts for
/// generations only: completions are asked for in the model's own way.
fn flat(bytes: &[u8], generates: bool) -> Result<Wanted<'_>, GatewayError> {
    let mut body: Flat<'_> = body::parse(bytes)?;
    let mut faults = Faults::default();
    let version = body.prompt_version.unwrap_or(1);
    if !(1..=3).contains(&version) {
        faults.add(&["prompt_version"], "value_error", "1, 2 or 3 is expected");
    }
    faults.length(&["project_path"], body.project_path.as_deref(), MAX_NAME);
    faults.length(&["model_name"], body.model_name.as_deref(), 50);
    faults.count("telemetry", body.telemetry.as_ref().map_or(0, Vec::len), 10);
    faults.file(&["current_file"], &body.current_file);
    let context = body.context.unwrap_or_default();
    faults.count("context", context.len(), 100);
    for (at, item) in context.iter().enumerate() {
        faults.snippet(&["context", &at.to_string()], item, 500_000);
    }
    let prompt = body.prompt.take().filter(|_| generates);
    let mut generation = Generate { prompt_id: body.prompt_id, ..Generate::default() };
    match prompt {
        Some(Value::Array(turns)) if version == 3 => generation.messages = faults.messages(&turns),
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
    faults.end()?;
    Ok(Wanted { file: body.current_file, context, generation: generates.then_some(generation) })
}

#[derive(Deserialize)]
struct Components<'a> {
    #[serde(borrow)]
    prompt_components: Vec<Component<'a>>,
}

#[derive(Deserialize)]
struct Component<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

/// Any component's payload; which fields must be there depends on its type.
#[derive(Deserialize)]
struct Payload<'a> {
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

/// `/v3/code/completions` and `/v4/code/suggestions`.
fn components(bytes: &[u8]) -> Result<Wanted<'_>, GatewayError> {
    let body: Components<'_> = body::parse(bytes)?;
    let mut faults = Faults::default();
    faults.count("prompt_components", body.prompt_components.len(), 100);
    let (mut editor, mut context) = (None, Vec::new());
    for (at, component) in body.prompt_components.into_iter().enumerate() {
        let index = at.to_string();
        let place = ["prompt_components", index.as_str(), "payload"];
        let payload = component.payload;
        match &*component.kind {
            "code_context" => {
                let snippet = Snippet {
                    kind: faults.required(&place, "type", payload.kind),
                    name: faults.required(&place, "name", payload.name),
                    content: faults.required(&place, "content", payload.content),
                };
                faults.snippet(&place, &snippet, MAX_CONTENT);
                context.push(snippet);
            }
            "code_editor_completion" | "code_editor_generation" => {
                let generates = component.kind == "code_editor_generation";
                let read = editor_of(payload, generates, &place, &mut faults);
                editor.get_or_insert(read);
            }
            _ => {
                let msg =
                    "code_editor_completion, code_editor_generation or code_context is expected";
                faults.add(&["prompt_components", &index, "type"], "value_error", msg);
            }
        }
    }
    faults.end()?;
    let Some((file, generation)) = editor else {
        let msg = "a code_editor component is expected";
        return Err(GatewayError::invalid(vec![BodyFault::at(
            "prompt_components",
            "value_error",
            msg,
        )]));
    };
    Ok(Wanted { file, context, generation })
}

fn editor_of<'a>(
    payload: Payload<'a>,
    generates: bool,
    place: &[&str],
    faults: &mut Faults,
) -> (File<'a>, Option<Generate<'a>>) {
    let file = File {
        file_name: faults.required(place, "file_name", payload.file_name),
        language_identifier: payload.language_identifier,
        content_above_cursor: faults.required(
            place,
            "content_above_cursor",
            payload.content_above_cursor,
        ),
        content_below_cursor: faults.required(
            place,
            "content_below_cursor",
            payload.content_below_cursor,
        ),
    };
    faults.file(place, &file);
    if !generates {
        return (file, None);
    }
    let prompt = payload.prompt.as_ref().and_then(Value::as_str);
    faults.length(&[place, &["prompt"]].concat(), prompt, 400_000);
    let generation = Generate {
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

/// What is wrong with a body, collected.
#[derive(Default)]
struct Faults(Vec<BodyFault>);

impl Faults {
    fn add(&mut self, place: &[&str], kind: &'static str, msg: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(fault(place, kind, msg));
        }
    }

    fn required<'a>(
        &mut self,
        place: &[&str],
        field: &str,
        value: Option<Cow<'a, str>>,
    ) -> Cow<'a, str> {
        value.unwrap_or_else(|| {
            self.add(&[place, &[field]].concat(), "missing", "Field required");
            Cow::Borrowed("")
        })
    }

    fn length(&mut self, place: &[&str], text: Option<&str>, max: usize) {
        // no text has more characters than bytes
        if text.is_some_and(|text| text.len() > max && text.chars().count() > max) {
            self.add(place, "string_too_long", format!("at most {max} characters are expected"));
        }
    }

    fn count(&mut self, field: &'static str, found: usize, max: usize) {
        if found > max {
            self.add(&[field], "too_long", format!("at most {max} are expected, not {found}"));
        }
    }

    fn file(&mut self, place: &[&str], file: &File<'_>) {
        let at = |field| [place, &[field]].concat();
        self.length(&at("file_name"), Some(file.file_name.trim()), MAX_NAME);
        self.length(&at("language_identifier"), file.language_identifier.as_deref(), MAX_NAME);
        self.length(&at("content_above_cursor"), Some(&file.content_above_cursor), MAX_CONTENT);
        self.length(&at("content_below_cursor"), Some(&file.content_below_cursor), MAX_CONTENT);
    }

    fn snippet(&mut self, place: &[&str], snippet: &Snippet<'_>, max: usize) {
        let at = |field| [place, &[field]].concat();
        self.length(&at("type"), Some(&snippet.kind), 1024);
        self.length(&at("name"), Some(&snippet.name), 1024);
        self.length(&at("content"), Some(&snippet.content), max);
    }

    fn messages(&mut self, turns: &[Value]) -> Vec<Message> {
        let mut messages = Vec::with_capacity(turns.len());
        for (at, turn) in turns.iter().enumerate() {
            let role =
                turn["role"].as_str().and_then(Role::parse).filter(|role| *role != Role::Tool);
            match (role, turn["content"].as_str()) {
                (Some(role), Some(text)) => messages.push(Message::text(role, text)),
                _ => {
                    let msg = "{role: system, user or assistant, content: a string} is expected";
                    self.add(&["prompt", &at.to_string()], "value_error", msg);
                }
            }
        }
        messages
    }

    fn end(self) -> Result<(), GatewayError> {
        if self.0.is_empty() { Ok(()) } else { Err(GatewayError::invalid(self.0)) }
    }
}

fn fault(place: &[&str], kind: &'static str, msg: impl Into<String>) -> BodyFault {
    let loc = std::iter::once("body")
        .chain(place.iter().copied())
        .map(|part| Cow::Owned(part.to_owned()))
        .collect();
    BodyFault { loc, msg: msg.into(), kind }
}
