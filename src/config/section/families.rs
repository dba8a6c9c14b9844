//! `[families]`: the built-in model families of `config/families.toml`, and the file's own over
//! them.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::config::toml::diagnostic::Reported;
use crate::config::toml::document::Document;
use crate::config::toml::environment::Environment;
use crate::config::toml::reader::Reader;
use crate::config::toml::suggest;
use crate::config::toml::values::{Strings, quoted_value};
use crate::model::{Completion, CompletionEndpoint, Families, Family, Fim, FimTemplate, ToolStyle};

const NAME: &str = "families.toml";
/// Most stop texts that OpenAI's API accepts, and vLLM with it.
const MAX_STOPS: usize = 4;
const BUILT_IN: &str = include_str!("../../../config/families.toml");

/// The families that every configuration starts with.
static BUILT_INS: LazyLock<Families> = LazyLock::new(|| {
    let mut families = Families::default();
    // a test checks that the text has no faults
    let Ok(doc) = Document::parse(BUILT_IN, NAME.into()) else { return families };
    let env = Environment::default();
    let mut reader = Reader::new(&doc, &env, Path::new(NAME));
    let bare = Arc::new(Family { temperature: None, max_tokens: None, ..Family::default() });
    for name in doc.names(&["families"]) {
        if let Ok(family) = family(&mut reader, name, &families, &bare) {
            families.set(family);
        }
    }
    families
});

/// Reads the families of a file. One with faults is missing.
pub(crate) fn read(reader: &mut Reader<'_>) -> Families {
    let mut families = BUILT_INS.clone();
    for name in reader.doc.names(&["families"]) {
        let own = BUILT_INS.get(name);
        if let Ok(family) = family(reader, name, &BUILT_INS, &own) {
            families.set(family);
        }
    }
    families
}

/// Reads one table. What it does not set is as in the family it is like: `base`, unless it names
/// another. A wrong value is reported and left out.
fn family(
    reader: &mut Reader<'_>,
    name: &str,
    known: &Families,
    base: &Arc<Family>,
) -> Result<Family, Reported> {
    let path = |key: &'static str| ["families", name, key];
    let header = reader.doc.get(&["families", name]).ok_or(Reported)?;
    // anything but a table has been reported
    header.value.as_table().ok_or(Reported)?;
    let base = match reader.optional_string(&path("like")).unwrap_or_default() {
        Some(text) => match known.find(&text) {
            Some(family) => Arc::clone(family),
            None => return Err(unknown(reader, &path("like"), known)),
        },
        None => Arc::clone(base),
    };
    let tokens = |reader: &mut Reader<'_>, key: &'static str| -> Option<u32> {
        reader.optional_integer(&path(key)).unwrap_or_default()?.try_into().ok()
    };
    let flag = |reader: &mut Reader<'_>, key: &'static str| {
        reader.optional_boolean(&path(key)).unwrap_or_default()
    };
    Ok(Family {
        name: name.into(),
        completion: completion(reader, name, &base)?,
        completion_endpoint: completion_endpoint(reader, &path("completion_endpoint"))
            .or(base.completion_endpoint),
        context_tokens: tokens(reader, "context_tokens").unwrap_or(base.context_tokens),
        completion_tokens: tokens(reader, "completion_tokens").unwrap_or(base.completion_tokens),
        generation_tokens: tokens(reader, "generation_tokens").unwrap_or(base.generation_tokens),
        max_tokens: tokens(reader, "max_tokens").or(base.max_tokens),
        temperature: reader
            .optional_number(&path("temperature"))
            .unwrap_or_default()
            .or(base.temperature),
        strip_reasoning: flag(reader, "strip_reasoning").unwrap_or(base.strip_reasoning),
        single_system: flag(reader, "single_system").unwrap_or(base.single_system),
        tools: match reader.optional_keyword(&path("tools")) {
            Ok(Some("react")) => ToolStyle::React,
            Ok(Some(_)) => ToolStyle::Native,
            Ok(None) | Err(Reported) => base.tools,
        },
        prompts: match reader.optional_strings(&path("prompts")) {
            Ok(Some(folders)) => folders.into_iter().map(|(folder, _)| folder.into()).collect(),
            Ok(None) | Err(Reported) => base.prompts.clone(),
        },
        unescape_underscores: flag(reader, "unescape_underscores")
            .unwrap_or(base.unescape_underscores),
    })
}

/// Reads which call completes code, of a family or a model: `/completions` or `/chat/completions`.
/// Returns `None` when it is not set or wrong.
pub(crate) fn completion_endpoint(
    reader: &mut Reader<'_>,
    path: &[&str],
) -> Option<CompletionEndpoint> {
    match reader.optional_keyword(path).unwrap_or_default()? {
        "chat" => Some(CompletionEndpoint::Chat),
        _ => Some(CompletionEndpoint::Completions),
    }
}

/// Reads how code is completed.
fn completion(reader: &mut Reader<'_>, name: &str, base: &Family) -> Result<Completion, Reported> {
    let (fim_of_base, base_is_fim) = match &base.completion {
        Completion::Fim(fim) => (Some(fim), true),
        Completion::Chat => (None, false),
    };
    let own = template(reader, name)?;
    let stop = stop_texts(reader, name);
    let path = ["families", name, "completion"];
    let style = reader.optional_keyword(&path).unwrap_or_default();
    if style.map_or(!base_is_fim, |style| style == "chat") {
        return Ok(Completion::Chat);
    }
    let Some(template) = own.or_else(|| fim_of_base.map(|fim| fim.template.clone())) else {
        let hint =
            "fim.template = \"<PRE>{prefix}<SUF>{suffix}<MID>\", with your model's own FIM tokens";
        let entry = reader.doc.get(&path).ok_or(Reported)?;
        let fault = reader.fault_at(&path, &entry.span, "expected fim.template as well");
        return Err(reader.report(fault.hint(Some(hint.to_owned()))));
    };
    let stop = match stop {
        Some(texts) => texts.into_iter().map(|(text, _)| text).collect(),
        None => fim_of_base.map(|fim| fim.stop.clone()).unwrap_or_default(),
    };
    Ok(Completion::Fim(Fim { template, stop }))
}

/// Reads the template of fill-in-the-middle prompts, if the table has one.
fn template(reader: &mut Reader<'_>, name: &str) -> Result<Option<FimTemplate>, Reported> {
    let path = ["families", name, "fim", "template"];
    let Some(text) = reader.optional_string(&path).unwrap_or_default() else { return Ok(None) };
    FimTemplate::parse(&text).map(Some).map_err(|why| {
        let Some(entry) = reader.doc.get(&path) else { return Reported };
        let fault = reader.fault_at(&path, &entry.span, why.to_string());
        reader.report(fault.found(quoted_value(entry.value)))
    })
}

/// Reads the texts that end a completion, if the table has any. More than every model server
/// accepts are a fault.
fn stop_texts(reader: &mut Reader<'_>, name: &str) -> Option<Strings> {
    let path = ["families", name, "fim", "stop"];
    let stop = reader.optional_strings(&path).unwrap_or_default()?;
    if let Some((_, fifth)) = stop.get(MAX_STOPS) {
        let fault = reader.error(&path, fifth, format!("expected at most {MAX_STOPS} texts"));
        fault.hint = Some(
            "OpenAI's API and vLLM refuse a request with more: keep those that end a middle"
                .to_owned(),
        );
    }
    Some(stop)
}

/// Collects the fault that a key names no family.
pub(crate) fn unknown(reader: &mut Reader<'_>, path: &[&str], known: &Families) -> Reported {
    let Some(entry) = reader.doc.get(path) else { return Reported };
    let names: Vec<&str> = known.iter().map(|family| &*family.name).collect();
    let hint = suggest::nearest(entry.value.as_str().unwrap_or_default(), names.iter().copied())
        .map(|near| format!("did you mean {near:?}?"));
    let fault = reader.fault_at(path, &entry.span, format!("expected one of {}", names.join(", ")));
    reader.report(fault.found(quoted_value(entry.value)).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, BUILT_INS};
    use crate::config::{Environment, from_str};
    use crate::model::{Completion, Family};

    #[test]
    fn the_built_in_text_has_no_faults_and_matches_the_defaults_of_the_code() {
        // read like an operator's file, so that unknown keys are found, too
        let config = from_str(BUILT_IN, "families.toml", &Environment::default());
        assert!(config.unwrap_or_else(|faults| panic!("{faults}")).warnings.is_empty());
        assert_eq!(**BUILT_INS.find("general").unwrap(), Family::default());
        let tables = BUILT_IN.lines().filter(|line| line.starts_with("[families.")).count();
        assert_eq!(BUILT_INS.iter().count(), tables);
    }

    #[test]
    fn gitlabs_families_are_all_there() {
        for name in [
            "mistral",
            "llama3",
            "codegemma",
            "codestral",
            "codellama",
            "deepseekcoder",
            "claude_3",
            "gpt",
            "mixtral",
            "general",
            "gemini",
            "embedding",
            "qwen",
        ] {
            assert!(BUILT_INS.find(name).is_some(), "{name}");
        }
        let gpt = BUILT_INS.get("gpt");
        assert_eq!((gpt.temperature, gpt.max_tokens), (None, None));
        let fim = |name| matches!(BUILT_INS.get(name).completion, Completion::Fim(_));
        assert!(
            fim("codestral")
                && fim("codestral-2508")
                && fim("granite")
                && !fim("mistral")
                && !fim("novel")
        );
    }
}
