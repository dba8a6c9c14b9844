//! `[families]`: the built-in ones of `config/families.toml`, and the file's own over them.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::config::load::Environment;
use crate::config::toml::document::Document;
use crate::config::toml::reader::{Reader, said};
use crate::config::toml::suggest;
use crate::model::{Completion, CompletionEndpoint, Families, Family, Fim, FimTemplate, ToolStyle};

const NAME: &str = "families.toml";
/// As many stop texts as OpenAI's API takes, and vLLM with it.
const MAX_STOPS: usize = 4;
const BUILT_IN: &str = include_str!("../../../config/families.toml");

/// What every configuration starts with.
static BUILT_INS: LazyLock<Families> = LazyLock::new(|| {
    let mut families = Families::default();
    // a test finds what is wrong with the text
    let Ok(doc) = Document::parse(BUILT_IN, NAME.into()) else { return families };
    let env = Environment::default();
    let mut reader = Reader::new(&doc, &env, Path::new(NAME));
    let bare = Arc::new(Family { temperature: None, max_tokens: None, ..Family::default() });
    for name in doc.names(&["families"]) {
        let read = family(&mut reader, name, &families, &bare);
        read.into_iter().for_each(|family| families.set(family));
    }
    families
});

/// The families of a file. One with faults has left them and is missing.
pub(crate) fn read(reader: &mut Reader<'_>) -> Families {
    let mut families = BUILT_INS.clone();
    for name in reader.doc.names(&["families"]) {
        let own = BUILT_INS.get(name);
        let read = family(reader, name, &BUILT_INS, &own);
        read.into_iter().for_each(|family| families.set(family));
    }
    families
}

/// One table. What it does not say is as in the family it is like: `base`, unless it names another.
fn family(
    reader: &mut Reader<'_>,
    name: &str,
    known: &Families,
    base: &Arc<Family>,
) -> Option<Family> {
    let table = ["families", name];
    let header = reader.doc.get(&table)?;
    header.value.as_table()?;
    let like = ["families", name, "like"];
    let base = match reader.text(&like) {
        Some(text) => match known.find(&text) {
            Some(family) => Arc::clone(family),
            None => {
                unknown(reader, &like, known);
                return None;
            }
        },
        None => Arc::clone(base),
    };
    let key = |key: &'static str| ["families", name, key];
    let tokens = |reader: &mut Reader<'_>, name: &'static str, base: u32| {
        reader.integer(&key(name)).and_then(|n| n.try_into().ok()).unwrap_or(base)
    };
    Some(Family {
        name: name.into(),
        completion: completion(reader, name, &base)?,
        completion_endpoint: completion_endpoint(reader, &key("completion_endpoint"))
            .or(base.completion_endpoint),
        context_tokens: tokens(reader, "context_tokens", base.context_tokens),
        completion_tokens: tokens(reader, "completion_tokens", base.completion_tokens),
        generation_tokens: tokens(reader, "generation_tokens", base.generation_tokens),
        max_tokens: reader
            .integer(&key("max_tokens"))
            .and_then(|n| n.try_into().ok())
            .or(base.max_tokens),
        temperature: reader.number(&key("temperature")).or(base.temperature),
        strip_reasoning: reader.boolean(&key("strip_reasoning")).unwrap_or(base.strip_reasoning),
        single_system: reader.boolean(&key("single_system")).unwrap_or(base.single_system),
        tools: match reader.word(&key("tools")) {
            Some("react") => ToolStyle::React,
            Some(_) => ToolStyle::Native,
            None => base.tools,
        },
        prompts: match reader.texts(&key("prompts")) {
            Some(folders) => folders.into_iter().map(|(folder, _)| folder.into()).collect(),
            None => base.prompts.clone(),
        },
        unescape_underscores: reader
            .boolean(&key("unescape_underscores"))
            .unwrap_or(base.unescape_underscores),
    })
}

/// `/completions` or `/chat/completions`, of a family or a model.
pub(crate) fn completion_endpoint(
    reader: &mut Reader<'_>,
    path: &[&str],
) -> Option<CompletionEndpoint> {
    reader.word(path).map(|word| match word {
        "chat" => CompletionEndpoint::Chat,
        _ => CompletionEndpoint::Completions,
    })
}

fn completion(reader: &mut Reader<'_>, name: &str, base: &Family) -> Option<Completion> {
    let (of_base, is_fim) = match &base.completion {
        Completion::Fim(fim) => (Some(fim), true),
        Completion::Chat => (None, false),
    };
    let template = ["families", name, "fim", "template"];
    let own = match reader.text(&template) {
        Some(text) => match FimTemplate::parse(&text) {
            Ok(template) => Some(template),
            Err(why) => {
                let entry = reader.doc.get(&template)?;
                let fault = reader.error(&template, &entry.span, why.to_string());
                fault.said = Some(said(entry.value));
                return None;
            }
        },
        None => None,
    };
    let stop = stops(reader, name);
    let style = reader.word(&["families", name, "completion"]);
    if style.map_or(!is_fim, |word| word == "chat") {
        return Some(Completion::Chat);
    }
    let Some(template) = own.or_else(|| of_base.map(|fim| fim.template.clone())) else {
        let path = ["families", name, "completion"];
        let entry = reader.doc.get(&path)?;
        reader.error(&path, &entry.span, "expected fim.template beside it").hint = Some(
            "fim.template = \"<PRE>{prefix}<SUF>{suffix}<MID>\", in your model's own marks"
                .to_owned(),
        );
        return None;
    };
    let stop = match stop {
        Some(texts) => texts.into_iter().map(|(text, _)| text).collect(),
        None => of_base.map(|fim| fim.stop.clone()).unwrap_or_default(),
    };
    Some(Completion::Fim(Fim { template, stop }))
}

/// Texts that end a completion, if the file says any: as many as every model server takes.
fn stops(reader: &mut Reader<'_>, name: &str) -> Option<Vec<(String, Range<usize>)>> {
    let path = ["families", name, "fim", "stop"];
    let stop = reader.texts(&path)?;
    if let Some((_, fifth)) = stop.get(MAX_STOPS) {
        let fault = reader.error(&path, fifth, format!("expected at most {MAX_STOPS} texts"));
        fault.hint = Some(
            "OpenAI's API and vLLM refuse a request with more: keep those that end a middle"
                .to_owned(),
        );
    }
    Some(stop)
}

/// Notes that a key names no family.
pub(crate) fn unknown(reader: &mut Reader<'_>, path: &[&str], known: &Families) {
    let Some(entry) = reader.doc.get(path) else { return };
    let names: Vec<&str> = known.iter().map(|family| &*family.name).collect();
    let hint = suggest::nearest(entry.value.as_str().unwrap_or_default(), names.iter().copied())
        .map(|near| format!("did you mean {near:?}?"));
    let fault = reader.error(path, &entry.span, format!("expected one of {}", names.join(", ")));
    (fault.said, fault.hint) = (Some(said(entry.value)), hint);
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, BUILT_INS};
    use crate::config::{Environment, from_str};
    use crate::model::{Completion, Family};

    #[test]
    fn the_built_in_text_is_without_fault_and_says_what_the_code_falls_back_to() {
        // read as a file of an operator's, so that unknown keys are found, too
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
