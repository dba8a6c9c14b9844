//! The prompt files → prompts, collecting every error. A family's file contains what differs from
//! `base`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use semver::Version;
use serde::Deserialize;
use toml::Spanned;

use super::template::{Engine, TemplateError};
use super::version::Versions;
use super::{Prompt, PromptRegistry, RenderError};
use crate::generation::{Role, Sampling};
use crate::route::Feature;

/// One error in a prompt file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    /// The file, below the prompts' directory.
    pub path: String,
    /// The span in the file; empty at its start for the file as a whole.
    pub span: Range<usize>,
    /// What is wrong, or what was expected.
    pub message: String,
}

/// A file as it is written, before validation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    description: Option<String>,
    versions: Option<Vec<Spanned<String>>>,
    feature: Option<Spanned<String>>,
    unit_primitives: Option<Vec<String>>,
    streams: Option<bool>,
    inputs: Option<Vec<String>>,
    optional: Option<Vec<String>>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    stop: Option<Vec<String>>,
    messages: Option<Vec<MessageTable>>,
    example: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageTable {
    role: Spanned<String>,
    text: Spanned<String>,
}

/// A file whose TOML is valid.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    definition: Definition,
}

const EXPECTED_PATHS: &str =
    "expected <prompt id>/base.toml, <prompt id>/<family>.toml or shared/<name>.txt";

/// The kind of file that a path denotes.
enum FileKind<'a> {
    Shared,
    Prompt(&'a str, Option<&'a str>),
}

pub(super) fn load<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<PromptRegistry, Vec<DefinitionError>> {
    let mut loader = Loader { engine: Engine::new(), errors: Vec::new() };
    let mut by_id: BTreeMap<&str, BTreeMap<Option<&'a str>, File<'a>>> = BTreeMap::new();
    for (path, text) in files {
        match file_kind(path) {
            Some(FileKind::Shared) => loader.add_shared(path, text),
            Some(FileKind::Prompt(id, family)) => {
                if let Some(file) = loader.add_file(path, text) {
                    by_id.entry(id).or_default().insert(family, file);
                }
            }
            None => loader.report(path, 0..0, EXPECTED_PATHS),
        }
    }
    // a template may include one that comes after it
    let Loader { engine, mut errors } = loader;
    let engine = Arc::new(engine);
    let mut prompts = BTreeMap::new();
    for (id, files) in by_id {
        let id: Arc<str> = id.into();
        let base = files.get(&None);
        let variants = files.iter().filter_map(|(family, file)| {
            let mut check = Check { file, base, engine: &engine, errors: &mut errors };
            check.build(&id, *family)
        });
        prompts.insert(Arc::clone(&id), variants.collect());
    }
    if errors.is_empty() { Ok(PromptRegistry { prompts }) } else { Err(errors) }
}

fn file_kind(path: &str) -> Option<FileKind<'_>> {
    let (id, name) = path.rsplit_once('/')?;
    if id == "shared" {
        return name.ends_with(".txt").then_some(FileKind::Shared);
    }
    match name.strip_suffix(".toml")? {
        "base" => Some(FileKind::Prompt(id, None)),
        folder => Some(FileKind::Prompt(id, Some(folder))),
    }
}

/// Returns the name of a file's message in the engine.
fn template_name(path: &str, index: usize) -> String {
    format!("{path}#{}", index + 1)
}

/// The first pass: each file on its own.
struct Loader {
    engine: Engine,
    errors: Vec<DefinitionError>,
}

impl Loader {
    fn report(&mut self, path: &str, at: Range<usize>, message: impl Into<String>) {
        self.errors.push(DefinitionError {
            path: path.to_owned(),
            span: at,
            message: message.into(),
        });
    }

    fn add_shared(&mut self, path: &str, text: &str) {
        if let Err(error) = self.engine.add(path, text) {
            return self.report(path, line_span(text, 0, error.line), error.message);
        }
        for name in self.engine.variables(path) {
            let at = find_word(text, &name);
            self.report(path, at, format!("{name}: shared texts have no inputs"));
        }
    }

    fn add_file<'a>(&mut self, path: &'a str, text: &'a str) -> Option<File<'a>> {
        let definition: Definition = match toml::from_str(text) {
            Ok(definition) => definition,
            Err(error) => {
                self.report(path, error.span().unwrap_or(0..0), error.message().to_owned());
                return None;
            }
        };
        for (index, message) in definition.messages.iter().flatten().enumerate() {
            let name = template_name(path, index);
            if let Err(error) = self.engine.add(&name, message.text.get_ref()) {
                self.report(
                    path,
                    line_span(text, body_start(text, &message.text), error.line),
                    error.message,
                );
            }
        }
        Some(File { path, text, definition })
    }
}

/// The second pass: a file merged over its base.
struct Check<'c, 'a> {
    file: &'c File<'a>,
    base: Option<&'c File<'a>>,
    engine: &'c Arc<Engine>,
    errors: &'c mut Vec<DefinitionError>,
}

impl<'c> Check<'c, '_> {
    fn report(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.errors.push(DefinitionError {
            path: self.file.path.to_owned(),
            span: at,
            message: message.into(),
        });
    }

    /// Returns the value of a key in this file, else in its base.
    fn value_of<T>(&self, of: impl Fn(&'c Definition) -> Option<T>) -> Option<T> {
        of(&self.file.definition).or_else(|| of(&self.base?.definition))
    }

    /// Returns the same for a required key; reports an error and returns `None` when neither file
    /// has it.
    fn required<T>(&mut self, key: &str, of: impl Fn(&'c Definition) -> Option<T>) -> Option<T> {
        let value = self.value_of(of);
        if value.is_none() {
            self.report(0..0, format!("`{key}` is missing"));
        }
        value
    }

    fn build(&mut self, id: &Arc<str>, family: Option<&str>) -> Option<Prompt> {
        if self.base.is_none() {
            self.report(0..0, format!("there is no {id}/base.toml for the other families"));
            return None;
        }
        let description = self.required("description", |file| file.description.clone());
        let versions = self.versions();
        let feature = self.feature();
        let unit_primitives = self.required("unit_primitives", |file| file.unit_primitives.clone());
        let inputs = self.required("inputs", |file| file.inputs.clone());
        let sampling = Sampling {
            max_tokens: self.value_of(|file| file.max_tokens),
            temperature: self.value_of(|file| file.temperature),
            stop: self.value_of(|file| file.stop.clone()).unwrap_or_default(),
            ..Sampling::default()
        };
        let messages = self.messages();
        let prompt = Prompt {
            id: Arc::clone(id),
            family: family.map(Arc::from),
            description: description?,
            feature: feature?,
            unit_primitives: unit_primitives?,
            streams: self.value_of(|file| file.streams).unwrap_or(false),
            inputs: inputs?,
            optional: self.value_of(|file| file.optional.clone()).unwrap_or_default(),
            example: self.value_of(|file| file.example.clone()).unwrap_or_default(),
            source: self.file.text.to_owned(),
            versions: versions?,
            sampling,
            messages: messages?,
            engine: Arc::clone(self.engine),
        };
        if self.check_variables(&prompt) {
            self.render_example(&prompt);
        }
        Some(prompt)
    }

    fn versions(&mut self) -> Option<Versions> {
        let texts = self.required("versions", |file| file.versions.as_ref())?;
        let mut versions = Vec::with_capacity(texts.len());
        for text in texts {
            match Version::parse(text.get_ref()) {
                Ok(version) => versions.push(version),
                Err(error) => {
                    self.report(text.span(), format!("expected a version like \"1.0.0\": {error}"))
                }
            }
        }
        Some(Versions::new(versions))
    }

    fn feature(&mut self) -> Option<Feature> {
        let name = self.required("feature", |file| file.feature.as_ref())?;
        let feature = Feature::parse(name.get_ref());
        if feature.is_none() {
            self.report(
                name.span(),
                "expected the key of one of GitLab's features, as in [features]",
            );
        }
        feature
    }

    /// Returns the role and the template's name of each message.
    fn messages(&mut self) -> Option<Vec<(Role, String)>> {
        let tables = self.required("messages", |file| file.messages.as_ref())?;
        let owner =
            if self.file.definition.messages.is_some() { self.file.path } else { self.base?.path };
        let mut messages = Vec::with_capacity(tables.len());
        for (index, message) in tables.iter().enumerate() {
            match message.role.get_ref().as_str() {
                "system" => messages.push((Role::System, template_name(owner, index))),
                "user" => messages.push((Role::User, template_name(owner, index))),
                "assistant" => messages.push((Role::Assistant, template_name(owner, index))),
                _ => self
                    .report(message.role.span(), "expected \"system\", \"user\" or \"assistant\""),
            }
        }
        Some(messages)
    }

    /// Checks that every name in the templates is an input, and that every input is used. Returns
    /// whether both hold.
    fn check_variables(&mut self, prompt: &Prompt) -> bool {
        let before = self.errors.len();
        let known: BTreeSet<&String> = prompt.inputs.iter().chain(&prompt.optional).collect();
        let mut used = BTreeSet::new();
        for (_, template) in &prompt.messages {
            let names = self.engine.variables(template);
            for name in names.iter().filter(|name| !known.contains(name)) {
                let at = find_word(self.file.text, name);
                self.report(at, format!("{name} is neither in `inputs` nor in `optional`"));
            }
            used.extend(names);
        }
        for name in known.into_iter().filter(|name| !used.contains(*name)) {
            let at = find_word(self.file.text, &format!("\"{name}\""));
            self.report(at, format!("the input {name} is used by no message"));
        }
        self.errors.len() == before
    }

    /// Renders the example, which finds what no static check does, such as a filter that does not
    /// exist.
    fn render_example(&mut self, prompt: &Prompt) {
        if prompt.example.is_empty() && !prompt.inputs.is_empty() {
            return;
        }
        match prompt.render(&prompt.example) {
            Ok(_) => {}
            Err(RenderError::Missing(name)) => {
                let at = find_word(self.file.text, "[example]");
                self.report(at, format!("the input {name} is missing here"));
            }
            Err(RenderError::Failed(error)) => {
                let at = self.error_span(&error);
                self.report(at, format!("with the inputs of [example]: {}", error.message));
            }
        }
    }

    fn error_span(&self, error: &TemplateError) -> Range<usize> {
        let tables = self.file.definition.messages.iter().flatten().enumerate();
        let mut matching =
            tables.filter(|(index, _)| template_name(self.file.path, *index) == error.template);
        matching.next().map_or(0..0, |(_, message)| {
            line_span(self.file.text, body_start(self.file.text, &message.text), error.line)
        })
    }
}

/// Returns the offset at which the text of a value starts, behind its quotes.
fn body_start(text: &str, value: &Spanned<String>) -> usize {
    let start = value.span().start;
    let source = text.get(value.span()).unwrap_or_default();
    let Some(rest) = source.strip_prefix("'''").or_else(|| source.strip_prefix("\"\"\"")) else {
        return start + 1;
    };
    start + 3 + rest.len() - rest.trim_start_matches('\r').strip_prefix('\n').unwrap_or(rest).len()
}

/// Returns the span of the nth line from an offset, without surrounding space.
fn line_span(text: &str, from: usize, nth: usize) -> Range<usize> {
    let rest = text.get(from..).unwrap_or_default();
    let Some(line) = rest.split('\n').nth(nth.saturating_sub(1)) else { return 0..0 };
    let start =
        line.as_ptr() as usize - text.as_ptr() as usize + (line.len() - line.trim_start().len());
    start..start + line.trim().len()
}

/// Returns the span of the first occurrence of a word; empty at the start when there is none.
fn find_word(text: &str, word: &str) -> Range<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_whole = |at: &usize| {
        let (before, after) = (&text[..*at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    };
    let found = text.match_indices(word).map(|(at, _)| at).find(is_whole);
    found.map_or(0..0, |at| at..at + word.len())
}
