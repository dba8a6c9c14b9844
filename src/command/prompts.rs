//! `weir prompts`: the prompts in force, as a list, as files, and as a model receives them.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Out;
use super::out::{align, suggestion};
use crate::config::{Config, nearest};
use crate::generation::{Generation, Message, Part};
use crate::model::Family;
use crate::prompt::Prompt;

/// Prints every prompt, one per line.
pub(super) fn list(config: &Config, out: &mut Out) -> ExitCode {
    let head = ["prompt", "for", "feature", "inputs", "description"].map(str::to_owned).to_vec();
    let row = |prompt: &Prompt| {
        let optional = prompt.optional.iter().map(|name| format!("{name}?"));
        let inputs: Vec<String> = prompt.inputs.iter().cloned().chain(optional).collect();
        vec![
            prompt.id.to_string(),
            prompt.family.as_deref().unwrap_or("all").to_owned(),
            prompt.feature.name().to_owned(),
            shortened(&inputs),
            prompt.description.clone(),
        ]
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(config.prompts.iter().map(row)).collect();
    align(&rows).iter().for_each(|line| out.line(line));
    ExitCode::SUCCESS
}

/// Returns the names of a prompt's inputs, shortened when there are many.
fn shortened(inputs: &[String]) -> String {
    const SHOWN: usize = 4;
    match inputs.len() {
        0 => "-".to_owned(),
        n if n > SHOWN => format!("{}, … {n} in all", inputs[..SHOWN - 1].join(", ")),
        _ => inputs.join(", "),
    }
}

/// Prints a prompt's file.
pub(super) fn show(config: &Config, id: &str, family: Option<&str>, out: &mut Out) -> ExitCode {
    let Some((prompt, _)) = find(config, id, family, out) else { return ExitCode::FAILURE };
    out.line(prompt.source.trim_end());
    ExitCode::SUCCESS
}

/// Prints what a model receives for these inputs (`name=value`); the others have the values of the
/// example.
pub(super) fn render(
    config: &Config,
    id: &str,
    family: Option<&str>,
    inputs: &[String],
    out: &mut Out,
) -> ExitCode {
    let Some((prompt, family)) = find(config, id, family, out) else { return ExitCode::FAILURE };
    let mut all = prompt.example.clone();
    for input in inputs {
        match parse(input) {
            Ok((name, value)) => _ = all.insert(name, value),
            Err(why) => {
                out.remark(why);
                return ExitCode::FAILURE;
            }
        }
    }
    remark_unknown_inputs(prompt, &all, out);
    match prompt.render(&all) {
        Ok(rendered) => print(&rendered.into_generation(&family, false), out),
        Err(error) => {
            out.remark(format_args!(
                "{id} cannot be rendered: input {error}; add --input NAME=VALUE"
            ));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Returns the prompt for a model of this family, and the family; `None`, with a remark, if one of
/// them does not exist.
fn find<'c>(
    config: &'c Config,
    id: &str,
    family: Option<&str>,
    out: &mut Out,
) -> Option<(&'c Prompt, Arc<Family>)> {
    let families = config.table.families();
    if let Some(name) = family.filter(|name| families.find(name).is_none()) {
        let known = families.iter().map(|family| &*family.name);
        out.remark(format_args!("{name:?} is not a family: {}", suggestion(name, known)));
        return None;
    }
    let family = families.get(family.unwrap_or_default());
    match config.prompts.get(id, &family, None) {
        Ok(prompt) => Some((prompt, family)),
        Err(missing) => {
            match nearest(id, config.prompts.iter().map(|prompt| &*prompt.id)) {
                Some(near) => out.remark(format_args!("{missing}: did you mean {near}?")),
                None => out.remark(format_args!("{missing}: `weir prompts list` shows all")),
            }
            None
        }
    }
}

/// Parses `name=value`, `name=@file`, or a list or an object as JSON. Fails when there is no `=` or
/// the file cannot be read.
fn parse(input: &str) -> Result<(String, Value), String> {
    let (name, text) = input
        .split_once('=')
        .ok_or_else(|| format!("--input {input}: expected NAME=VALUE or NAME=@FILE"))?;
    if let Some(path) = text.strip_prefix('@') {
        let text = std::fs::read_to_string(path)
            .map_err(|why| format!("--input {name}: cannot read {path}: {why}"))?;
        return Ok((name.to_owned(), text.into()));
    }
    let json = text.starts_with(['[', '{']).then(|| serde_json::from_str(text).ok()).flatten();
    Ok((name.to_owned(), json.unwrap_or_else(|| text.into())))
}

/// Prints a remark for each input that the prompt does not read. GitLab may send such inputs; on
/// the command line the name is most likely misspelt.
fn remark_unknown_inputs(prompt: &Prompt, inputs: &Map<String, Value>, out: &mut Out) {
    let known = || prompt.inputs.iter().chain(&prompt.optional).map(String::as_str);
    for name in inputs.keys().filter(|name| !known().any(|known| known == name.as_str())) {
        out.remark(format_args!(
            "{} has no input {name}: {}",
            prompt.id,
            suggestion(name, known())
        ));
    }
}

fn print(generation: &Generation, out: &mut Out) {
    for Message { role, parts } in &generation.messages {
        out.line(format_args!("--- {}", role.name()));
        for part in parts {
            if let Part::Text(text) = part {
                out.line(text.trim_end());
            }
        }
    }
    let sampling = &generation.sampling;
    let shown = |name: &str, value: Option<String>| value.map(|value| format!("{name} = {value}"));
    let stop = (!sampling.stop.is_empty()).then(|| format!("{:?}", sampling.stop));
    let lines = [
        shown("max_tokens", sampling.max_tokens.map(|n| n.to_string())),
        shown("temperature", sampling.temperature.map(|n| n.to_string())),
        shown("stop", stop),
    ];
    out.line("--- sampling");
    lines.into_iter().flatten().for_each(|line| out.line(line));
}
