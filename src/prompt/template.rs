//! The template engine: a sandboxed jinja. No file, no network, no attribute of anything but the
//! inputs; an undefined name is an error; time and memory are bounded by fuel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

/// The fuel of one message: one unit per instruction and one per 64 bytes that are created or
/// written, so 64 MiB and, at worst, some tens of milliseconds.
const FUEL: u64 = 1 << 20;

/// Every template of a registry, by name.
pub(super) struct Engine {
    environment: Environment<'static>,
}

/// Why a template does not parse or render.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{template}, line {line}: {message}")]
pub struct TemplateError {
    /// The template that failed, which may be an included one: `<file>#<message>`, both from 1.
    pub template: String,
    /// Line in it, from 1.
    pub line: usize,
    /// The engine's message.
    pub message: String,
}

impl Engine {
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // a line that contains only a tag leaves no empty line behind
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            environment.set_syntax(syntax);
        }
        Self { environment }
    }

    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        self.environment
            .add_template_owned(name.to_owned(), text.to_owned())
            .map_err(|error| template_error(&error, name))
    }

    /// Returns the names that a template reads and does not set itself, without those of the
    /// templates that it includes.
    pub(super) fn variables(&self, name: &str) -> BTreeSet<String> {
        let functions: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let names = self
            .environment
            .get_template(name)
            .map(|template| template.undeclared_variables(false))
            .unwrap_or_default();
        names.into_iter().filter(|name| !functions.contains(name.as_str())).collect()
    }

    pub(super) fn render(
        &self,
        name: &str,
        context: &BTreeMap<&str, Value>,
    ) -> Result<String, TemplateError> {
        let template =
            self.environment.get_template(name).map_err(|error| template_error(&error, name))?;
        template.render(context).map_err(|error| template_error(&error, name))
    }
}

/// Converts a request's JSON to the engine's value.
pub(super) fn to_value(json: &serde_json::Value) -> Value {
    Value::from(Serde(json))
}

fn template_error(error: &minijinja::Error, name: &str) -> TemplateError {
    let message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TemplateError {
        template: error.name().unwrap_or(name).to_owned(),
        line: error.line().unwrap_or(1),
        message,
    }
}

/// Without the templates: a registry is part of what is printed for debugging.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("templates", &self.environment.templates().count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Engine, to_value};

    fn render(text: &str, input: &serde_json::Value) -> Result<String, String> {
        let mut engine = Engine::new();
        engine.add("t", text).map_err(|error| error.message)?;
        engine.render("t", &BTreeMap::from([("x", to_value(input))])).map_err(|error| error.message)
    }

    #[test]
    fn an_input_is_text_and_never_a_template() {
        let hostile = serde_json::json!("{{ 7*7 }} {% raw %} <b>&amp;</b>");
        assert_eq!(
            render("[{{ x }}]", &hostile),
            Ok("[{{ 7*7 }} {% raw %} <b>&amp;</b>]".to_owned())
        );
    }

    #[test]
    fn a_line_with_only_a_tag_is_removed() {
        let text = "a\n  {% if x %}\nb\n  {% endif %}\nc\n";
        assert_eq!(render(text, &serde_json::json!(true)), Ok("a\nb\nc".to_owned()));
    }

    #[test]
    fn undefined_names_and_endless_loops_are_errors() {
        let null = serde_json::Value::Null;
        assert!(render("{{ y }}", &null).unwrap_err().contains("undefined"));
        let endless =
            "{% for a in range(9000) %}{% for b in range(9000) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(render(endless, &null).unwrap_err().contains("fuel"));
        let large = serde_json::json!("x".repeat(1 << 20));
        assert!(
            render("{% for a in range(900) %}{{ x }}{% endfor %}", &large)
                .unwrap_err()
                .contains("fuel")
        );
        assert!(render("{% include 'etc/passwd' %}", &null).is_err());
    }

    #[test]
    fn large_inputs_pass() {
        let large = serde_json::json!("x".repeat(30 << 20));
        assert_eq!(render("{{ x }}", &large).map(|text| text.len()), Ok(30 << 20));
    }
}
