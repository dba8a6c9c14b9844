//! The prompt files → prompts, collecting every flaw. A family's file says what differs from
//! `base`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use semver::Version;
use serde::Deserialize;
use toml::Spanned;

use super::template::{Engine, TemplateError};
use super::version::Versions;
use super::{Prompt, Registry, RenderError};
use crate::generation::{Role, Sampling};
use crate::route::Feature;

/// One thing that is wrong with a prompt file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The file, below the prompts' directory.
    pub path: String,
    /// The bytes of it that are meant; empty at its start for the file as a whole.
    pub at: Range<usize>,
    /// What is wrong, or what was expected.
    pub message: String,
}

/// A file as it is written.
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
    messages: Option<Vec<Turn>>,
    example: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: Spanned<String>,
    text: Spanned<String>,
}

/// A file that parsed.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    definition: Definition,
}

const PLACES: &str =
    "expected <prompt id>/base.toml, <prompt id>/<family>.toml or shared/<name>.txt";

/// What a path stands for.
enum Slot<'a> {
    Shared,
    Prompt(&'a str, Option<&'a str>),
}

pub(super) fn load<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Registry, Vec<Flaw>> {
    let mut loader = Loader { engine: Engine::new(), flaws: Vec::new() };
    let mut by_id: BTreeMap<&str, BTreeMap<Option<&'a str>, File<'a>>> = BTreeMap::new();
    for (path, text) in files {
        match slot(path) {
            Some(Slot::Shared) => loader.shared(path, text),
            Some(Slot::Prompt(id, family)) => {
                if let Some(file) = loader.file(path, text) {
                    by_id.entry(id).or_default().insert(family, file);
                }
            }
            None => loader.flaw(path, 0..0, PLACES),
        }
    }
    // what a template includes may come after it
    let Loader { engine, mut flaws } = loader;
    let engine = Arc::new(engine);
    let mut prompts = BTreeMap::new();
    for (id, files) in by_id {
        let id: Arc<str> = id.into();
        let base = files.get(&None);
        let read = files.iter().filter_map(|(family, file)| {
            let mut check = Check { file, base, engine: &engine, flaws: &mut flaws };
            check.prompt(&id, *family)
        });
        prompts.insert(Arc::clone(&id), read.collect());
    }
    if flaws.is_empty() { Ok(Registry { prompts }) } else { Err(flaws) }
}

fn slot(path: &str) -> Option<Slot<'_>> {
    let (id, name) = path.rsplit_once('/')?;
    if id == "shared" {
        return name.ends_with(".txt").then_some(Slot::Shared);
    }
    match name.strip_suffix(".toml")? {
        "base" => Some(Slot::Prompt(id, None)),
        folder => Some(Slot::Prompt(id, Some(folder))),
    }
}

/// The name of a file's message in the engine.
fn template_name(path: &str, index: usize) -> String {
    format!("{path}#{}", index + 1)
}

/// The first pass: every file on its own.
struct Loader {
    engine: Engine,
    flaws: Vec<Flaw>,
}

impl Loader {
    fn flaw(&mut self, path: &str, at: Range<usize>, message: impl Into<String>) {
        self.flaws.push(Flaw { path: path.to_owned(), at, message: message.into() });
    }

    fn shared(&mut self, path: &str, text: &str) {
        if let Err(error) = self.engine.add(path, text) {
            return self.flaw(path, line(text, 0, error.line), error.message);
        }
        for name in self.engine.variables(path) {
            let at = mention(text, &name);
            self.flaw(path, at, format!("{name}: shared texts have no inputs"));
        }
    }

    fn file<'a>(&mut self, path: &'a str, text: &'a str) -> Option<File<'a>> {
        let definition: Definition = match toml::from_str(text) {
            Ok(definition) => definition,
            Err(error) => {
                self.flaw(path, error.span().unwrap_or(0..0), error.message().to_owned());
                return None;
            }
        };
        for (index, turn) in definition.messages.iter().flatten().enumerate() {
            let name = template_name(path, index);
            if let Err(error) = self.engine.add(&name, turn.text.get_ref()) {
                self.flaw(
                    path,
                    line(text, body_start(text, &turn.text), error.line),
                    error.message,
                );
            }
        }
        Some(File { path, text, definition })
    }
}

/// The second pass: a file over its base.
struct Check<'c, 'a> {
    file: &'c File<'a>,
    base: Option<&'c File<'a>>,
    engine: &'c Arc<Engine>,
    flaws: &'c mut Vec<Flaw>,
}

impl<'c> Check<'c, '_> {
    fn flaw(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.flaws.push(Flaw { path: self.file.path.to_owned(), at, message: message.into() });
    }

    /// What this file says, else what its base says.
    fn said<T>(&self, of: impl Fn(&'c Definition) -> Option<T>) -> Option<T> {
        of(&self.file.definition).or_else(|| of(&self.base?.definition))
    }

    /// The same of a key that must be said somewhere.
    fn must<T>(&mut self, key: &str, of: impl Fn(&'c Definition) -> Option<T>) -> Option<T> {
        let said = self.said(of);
        if said.is_none() {
            self.flaw(0..0, format!("`{key}` is missing"));
        }
        said
    }

    fn prompt(&mut self, id: &Arc<str>, family: Option<&str>) -> Option<Prompt> {
        if self.base.is_none() {
            self.flaw(0..0, format!("there is no {id}/base.toml for the other families"));
            return None;
        }
        let description = self.must("description", |file| file.description.clone());
        let versions = self.versions();
        let feature = self.feature();
        let unit_primitives = self.must("unit_primitives", |file| file.unit_primitives.clone());
        let inputs = self.must("inputs", |file| file.inputs.clone());
        let sampling = Sampling {
            max_tokens: self.said(|file| file.max_tokens),
            temperature: self.said(|file| file.temperature),
            stop: self.said(|file| file.stop.clone()).unwrap_or_default(),
            ..Sampling::default()
        };
        let messages = self.messages();
        let prompt = Prompt {
            id: Arc::clone(id),
            family: family.map(Arc::from),
            description: description?,
            feature: feature?,
            unit_primitives: unit_primitives?,
            streams: self.said(|file| file.streams).unwrap_or(false),
            inputs: inputs?,
            optional: self.said(|file| file.optional.clone()).unwrap_or_default(),
            example: self.said(|file| file.example.clone()).unwrap_or_default(),
            source: self.file.text.to_owned(),
            versions: versions?,
            sampling,
            messages: messages?,
            engine: Arc::clone(self.engine),
        };
        if self.variables(&prompt) {
            self.example(&prompt);
        }
        Some(prompt)
    }

    fn versions(&mut self) -> Option<Versions> {
        let texts = self.must("versions", |file| file.versions.as_ref())?;
        let mut versions = Vec::with_capacity(texts.len());
        for text in texts {
            match Version::parse(text.get_ref()) {
                Ok(version) => versions.push(version),
                Err(error) => {
                    self.flaw(text.span(), format!("expected a version like \"1.0.0\": {error}"))
                }
            }
        }
        Some(Versions::new(versions))
    }

    fn feature(&mut self) -> Option<Feature> {
        let name = self.must("feature", |file| file.feature.as_ref())?;
        let feature = Feature::parse(name.get_ref());
        if feature.is_none() {
            self.flaw(
                name.span(),
                "expected the key of one of GitLab's features, as in [features]",
            );
        }
        feature
    }

    /// Role and template of each message.
    fn messages(&mut self) -> Option<Vec<(Role, String)>> {
        let turns = self.must("messages", |file| file.messages.as_ref())?;
        let owner =
            if self.file.definition.messages.is_some() { self.file.path } else { self.base?.path };
        let mut messages = Vec::with_capacity(turns.len());
        for (index, turn) in turns.iter().enumerate() {
            match turn.role.get_ref().as_str() {
                "system" => messages.push((Role::System, template_name(owner, index))),
                "user" => messages.push((Role::User, template_name(owner, index))),
                "assistant" => messages.push((Role::Assistant, template_name(owner, index))),
                _ => self.flaw(turn.role.span(), "expected \"system\", \"user\" or \"assistant\""),
            }
        }
        Some(messages)
    }

    /// Every name in the templates is an input, and every input is used.
    fn variables(&mut self, prompt: &Prompt) -> bool {
        let before = self.flaws.len();
        let known: BTreeSet<&String> = prompt.inputs.iter().chain(&prompt.optional).collect();
        let mut used = BTreeSet::new();
        for (_, template) in &prompt.messages {
            let names = self.engine.variables(template);
            for name in names.iter().filter(|name| !known.contains(name)) {
                let at = mention(self.file.text, name);
                self.flaw(at, format!("{name} is neither in `inputs` nor in `optional`"));
            }
            used.extend(names);
        }
        for name in known.into_iter().filter(|name| !used.contains(*name)) {
            let at = mention(self.file.text, &format!("\"{name}\""));
            self.flaw(at, format!("the input {name} is used by no message"));
        }
        self.flaws.len() == before
    }

    /// What no static check finds, such as a filter that does not exist, shows when the example is
    /// rendered.
    fn example(&mut self, prompt: &Prompt) {
        if prompt.example.is_empty() && !prompt.inputs.is_empty() {
            return;
        }
        match prompt.render(&prompt.example) {
            Ok(_) => {}
            Err(RenderError::Missing(name)) => {
                let at = mention(self.file.text, "[example]");
                self.flaw(at, format!("the input {name} is missing here"));
            }
            Err(RenderError::Failed(error)) => {
                let at = self.place(&error);
                self.flaw(at, format!("with the inputs of [example]: {}", error.message));
            }
        }
    }

    fn place(&self, error: &TemplateError) -> Range<usize> {
        let turns = self.file.definition.messages.iter().flatten().enumerate();
        let mut named =
            turns.filter(|(index, _)| template_name(self.file.path, *index) == error.template);
        named.next().map_or(0..0, |(_, turn)| {
            line(self.file.text, body_start(self.file.text, &turn.text), error.line)
        })
    }
}

/// Where the text of a value begins behind its quotes.
fn body_start(text: &str, value: &Spanned<String>) -> usize {
    let start = value.span().start;
    let written = text.get(value.span()).unwrap_or_default();
    let Some(rest) = written.strip_prefix("'''").or_else(|| written.strip_prefix("\"\"\"")) else {
        return start + 1;
    };
    start + 3 + rest.len() - rest.trim_start_matches('\r').strip_prefix('\n').unwrap_or(rest).len()
}

/// The nth line from an offset, without the space around it.
fn line(text: &str, from: usize, nth: usize) -> Range<usize> {
    let rest = text.get(from..).unwrap_or_default();
    let Some(line) = rest.split('\n').nth(nth.saturating_sub(1)) else { return 0..0 };
    let start =
        line.as_ptr() as usize - text.as_ptr() as usize + (line.len() - line.trim_start().len());
    start..start + line.trim().len()
}

/// The first place of a word.
fn mention(text: &str, word: &str) -> Range<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| {
        let (before, after) = (&text[..*at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    };
    let found = text.match_indices(word).map(|(at, _)| at).find(whole);
    found.map_or(0..0, |at| at..at + word.len())
}
