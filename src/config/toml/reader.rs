//! A typed reader over the tree: each read returns the file's value, else the environment's, else
//! the key's default; records where it came from; and collects a fault when the value is wrong.
//!
//! A configuration with a fault is refused as a whole, so a section reads all its keys before it
//! gives up, and may go on with a default in place of a wrong value: more faults are found at once.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use crate::config::toml::diagnostic::{
    Fault, Location, MASK, Reported, is_variable_name, may_carry_secret, quoted,
};
use crate::config::toml::document::{Document, path_text};
use crate::config::toml::environment::{Environment, read_secret};
use crate::config::toml::key::{Key, SECRET_FORMS, ValueType};
use crate::config::toml::provenance::{Origin, Provenance, Setting};
use crate::config::toml::values::{self, Strings};
use crate::config::toml::{key_paths, suggest, variables};
use crate::model::EndpointUrl;
use crate::secret::Secret;

/// A secret and its span in the file.
pub(crate) type SecretAndSpan = (Secret<String>, Range<usize>);

/// The document being read, with the faults and the origins collected so far.
pub(crate) struct Reader<'d> {
    /// The parsed file.
    pub(crate) doc: &'d Document<'d>,
    /// The environment variables.
    pub(crate) env: &'d Environment,
    /// Directory of the file, which relative paths in it are relative to.
    pub(crate) base: PathBuf,
    /// Errors and warnings.
    pub(crate) faults: Vec<Fault>,
    /// Where each value came from.
    pub(crate) provenance: Provenance,
}

/// Reads of keys. The `optional_…` ones are for keys without a fixed default, and return `None`
/// when such a key is set nowhere; the others always have a value.
impl<'d> Reader<'d> {
    /// Creates a reader of a document that was read from `file`.
    pub(crate) fn new(doc: &'d Document<'d>, env: &'d Environment, file: &Path) -> Self {
        let base = file.parent().map(Path::to_owned).unwrap_or_default();
        Self { doc, env, base, faults: Vec::new(), provenance: Provenance::default() }
    }

    pub(crate) fn address(&mut self, path: &[&str]) -> Result<SocketAddr, Reported> {
        self.required(path, values::address)
    }

    pub(crate) fn duration(&mut self, path: &[&str]) -> Result<Duration, Reported> {
        self.required(path, values::duration)
    }

    pub(crate) fn optional_duration(
        &mut self,
        path: &[&str],
    ) -> Result<Option<Duration>, Reported> {
        self.optional(path, values::duration)
    }

    /// Reads a size in bytes.
    pub(crate) fn size(&mut self, path: &[&str]) -> Result<u64, Reported> {
        self.required(path, values::size)
    }

    pub(crate) fn integer(&mut self, path: &[&str]) -> Result<usize, Reported> {
        self.required(path, values::integer)
    }

    pub(crate) fn optional_integer(&mut self, path: &[&str]) -> Result<Option<usize>, Reported> {
        self.optional(path, values::integer)
    }

    pub(crate) fn number(&mut self, path: &[&str]) -> Result<f64, Reported> {
        self.required(path, values::number)
    }

    pub(crate) fn optional_number(&mut self, path: &[&str]) -> Result<Option<f64>, Reported> {
        self.optional(path, values::number)
    }

    pub(crate) fn boolean(&mut self, path: &[&str]) -> Result<bool, Reported> {
        self.required(path, values::boolean)
    }

    pub(crate) fn optional_boolean(&mut self, path: &[&str]) -> Result<Option<bool>, Reported> {
        self.optional(path, values::boolean)
    }

    /// Reads one of the key's keywords.
    pub(crate) fn keyword(&mut self, path: &[&str]) -> Result<&'static str, Reported> {
        self.required(path, values::keyword)
    }

    pub(crate) fn optional_keyword(
        &mut self,
        path: &[&str],
    ) -> Result<Option<&'static str>, Reported> {
        self.optional(path, values::keyword)
    }

    pub(crate) fn string(&mut self, path: &[&str]) -> Result<String, Reported> {
        self.required(path, values::string)
    }

    pub(crate) fn optional_string(&mut self, path: &[&str]) -> Result<Option<String>, Reported> {
        self.optional(path, values::string)
    }

    /// Reads an array of strings, each with its span. A key that is not set is an empty one.
    pub(crate) fn strings(&mut self, path: &[&str]) -> Result<Strings, Reported> {
        Ok(self.optional_strings(path)?.unwrap_or_default())
    }

    pub(crate) fn optional_strings(&mut self, path: &[&str]) -> Result<Option<Strings>, Reported> {
        self.optional(path, values::strings)
    }

    /// Reads an address that is not a model server's: no `/v1` is guessed.
    pub(crate) fn url(&mut self, path: &[&str]) -> Result<EndpointUrl, Reported> {
        self.optional_url(path)?.ok_or(Reported)
    }

    pub(crate) fn optional_url(&mut self, path: &[&str]) -> Result<Option<EndpointUrl>, Reported> {
        let Some(text) = self.optional_string(path)? else { return Ok(None) };
        let why = match EndpointUrl::parse(&text) {
            Ok(url) => return Ok(Some(url)),
            Err(why) => why,
        };
        let meant = format!("https://{}", text.trim_start_matches('/'));
        let is_meant = !text.contains("://") && EndpointUrl::parse(&meant).is_ok();
        let expected = value_type(path).expected();
        let fault = self.fault_of(&path.join("."), format!("expected {expected}: {why}"));
        let fault = if may_carry_secret(&text) { fault } else { fault.found(quoted(&text)) };
        Err(self.report(fault.hint(is_meant.then(|| format!("did you mean {meant:?}?")))))
    }

    /// Reads a secret that may go into a header.
    pub(crate) fn optional_secret(
        &mut self,
        path: &[&str],
    ) -> Result<Option<Secret<String>>, Reported> {
        let Some(entry) = self.doc.get(path) else { return Ok(None) };
        self.secret_value(&path_text(path), entry.value, &entry.span, visible_ascii).map(Some)
    }

    /// Reads a key in PEM, which has line breaks and goes into no header, with its span.
    pub(crate) fn optional_pem(
        &mut self,
        path: &[&str],
    ) -> Result<Option<SecretAndSpan>, Reported> {
        let Some(entry) = self.doc.get(path) else { return Ok(None) };
        let is_there = |secret: String, source: &str| {
            if secret.is_empty() {
                Err(format!("an empty secret{source}"))
            } else {
                Ok(Secret::new(secret))
            }
        };
        let pem = self.secret_value(&path_text(path), entry.value, &entry.span, is_there)?;
        Ok(Some((pem, entry.span)))
    }

    /// Reads a secret whose table may have these options as well. Any other option is a fault.
    pub(crate) fn secret_with_options(
        &mut self,
        name: &str,
        item: &Spanned<DeValue<'_>>,
        options: &[&str],
    ) -> Result<Secret<String>, Reported> {
        let (value, span) = (item.get_ref(), item.span());
        let Some(table) = value.as_table() else {
            return self.secret_value(name, value, &span, visible_ascii);
        };
        let (mut sources, mut unknown) = (Vec::new(), Ok(()));
        for (option, value) in table {
            match &**option.get_ref() {
                "env" | "file" => sources.push((option, value)),
                other if options.contains(&other) => {}
                other => unknown = Err(self.unknown_option(name, other, &option.span(), options)),
            }
        }
        let secret = match sources[..] {
            [(kind, value)] => self.secret_source(kind, value, visible_ascii),
            _ => Err(malformed_secret(span)),
        };
        let secret = secret.map_err(|fault| self.report_secret(name, fault))?;
        unknown.map(|()| secret)
    }

    fn unknown_option(
        &mut self,
        name: &str,
        option: &str,
        span: &Range<usize>,
        options: &[&str],
    ) -> Reported {
        let fault =
            Fault::error(self.doc.location(span), format!("{name}.{option}"), "unknown key");
        let hint = match suggest::nearest(option, options.iter().copied().chain(["env", "file"])) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("known here: env, file, {}", options.join(", ")),
        };
        self.report(fault.hint(Some(hint)))
    }
}

/// Collecting faults.
impl Reader<'_> {
    /// Collects an error about a span of the file, and returns it to be completed.
    pub(crate) fn error(
        &mut self,
        path: &[&str],
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Fault {
        let fault = self.fault_at(path, span, message);
        self.push(fault)
    }

    /// Collects a warning about a span of the file.
    pub(crate) fn warning(
        &mut self,
        path: &[&str],
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Fault {
        let fault = self.fault_at(path, span, message).as_warning();
        self.push(fault)
    }

    /// Creates an error about a span of the file.
    pub(crate) fn fault_at(
        &self,
        path: &[&str],
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> Fault {
        Fault::error(self.doc.location(span), path_text(path), message)
    }

    /// Creates an error about a value in force, at wherever it came from: a line of the file, a
    /// variable, a default.
    pub(crate) fn fault_of(&self, key: &str, message: impl Into<String>) -> Fault {
        let path: Vec<&str> = key.split('.').collect();
        match (self.doc.get(&path), self.provenance.origin(key)) {
            (Some(entry), _) => Fault::error(self.doc.location(&entry.span), key, message),
            (None, Origin::Variable(variable)) => {
                Fault::error(Location::Environment, variable, message)
            }
            (None, Origin::Line(_) | Origin::Default) => {
                Fault::error(Location::File(self.doc.file().clone()), key, message)
            }
        }
    }

    /// Collects an error, and returns that it was collected.
    pub(crate) fn report(&mut self, fault: Fault) -> Reported {
        self.push(fault);
        Reported
    }

    /// Collects a fault as a warning.
    pub(crate) fn warn(&mut self, fault: Fault) {
        self.push(fault.as_warning());
    }

    /// Collects the error that a value is not of its key's type.
    pub(crate) fn wrong(
        &mut self,
        path: &[&str],
        span: &Range<usize>,
        value: &DeValue<'_>,
    ) -> Reported {
        if let Some(key) = key_paths::find(path) {
            self.push(wrong(self.doc.location(span), path_text(path), key, value));
        }
        Reported
    }

    fn push(&mut self, fault: Fault) -> &mut Fault {
        let at = self.faults.len();
        self.faults.push(fault);
        &mut self.faults[at]
    }
}

/// A parser of one type of value. Returns `None` when the value is not of that type.
type Parse<T> = fn(ValueType, &DeValue<'_>) -> Option<T>;

/// A secret, or the message and the span of its fault.
type Read = Result<Secret<String>, (String, Range<usize>)>;

impl Reader<'_> {
    /// Reads a key that has a fixed default.
    fn required<T>(&mut self, path: &[&str], parse: Parse<T>) -> Result<T, Reported> {
        self.optional(path, parse)?.ok_or(Reported)
    }

    /// Reads a key. Returns `None` when neither the file nor a variable sets it and it has no fixed
    /// default.
    fn optional<T>(&mut self, path: &[&str], parse: Parse<T>) -> Result<Option<T>, Reported> {
        let Some(key) = key_paths::find(path) else { return Ok(None) };
        if let Some(entry) = self.doc.get(path) {
            return match parse(key.value_type, entry.value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.wrong(path, &entry.span, entry.value)),
            };
        }
        let name = path_text(path);
        let of_variable =
            variables::value_of(key.path, key.fixed_default(), self.env, &mut self.faults);
        let (toml, origin) = match (of_variable, key.fixed_default()) {
            (Some((toml, variable)), _) => (toml, Origin::Variable(variable)),
            (None, Some(default)) => (default.to_owned(), Origin::Default),
            (None, None) => return Ok(None),
        };
        let Ok(value) = DeValue::parse(&toml) else { return Ok(None) };
        let parsed = parse(key.value_type, value.get_ref());
        if parsed.is_none() {
            let variable = match &origin {
                Origin::Variable(variable) => variable.clone(),
                Origin::Line(_) | Origin::Default => name.clone(),
            };
            self.push(wrong(Location::Environment, variable, key, value.get_ref()));
        }
        self.provenance.record(name, Setting { value: toml, origin });
        parsed.map(Some).ok_or(Reported)
    }

    fn secret_value(
        &mut self,
        name: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        check: impl Fn(String, &str) -> Result<Secret<String>, String>,
    ) -> Result<Secret<String>, Reported> {
        let secret = match value {
            DeValue::String(text) => {
                let hint = "write { env = \"NAME\" } or { file = \"/run/secrets/name\" } instead";
                let plain = Fault::warning(self.doc.location(span), name, "a secret in plain text");
                self.faults.push(plain.hint(Some(hint.to_owned())));
                check(text.to_string(), "").map_err(|message| (message, span.clone()))
            }
            DeValue::Table(table) => match (table.len(), table.iter().next()) {
                (1, Some((kind, value))) => self.secret_source(kind, value, check),
                _ => Err(malformed_secret(span.clone())),
            },
            _ => Err(malformed_secret(span.clone())),
        };
        secret.map_err(|fault| self.report_secret(name, fault))
    }

    /// Reads the secret in a variable or a file.
    fn secret_source(
        &self,
        kind: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        check: impl Fn(String, &str) -> Result<Secret<String>, String>,
    ) -> Read {
        let (secret, source) = match (&**kind.get_ref(), value.get_ref().as_str()) {
            ("env", Some(name)) => (self.variable(name), format!(" in {}", shown_name(name))),
            ("file", Some(path)) => (self.secret_file(path), format!(" in {path}")),
            _ => return Err(malformed_secret(kind.span())),
        };
        secret.and_then(|secret| check(secret, &source)).map_err(|message| (message, value.span()))
    }

    fn report_secret(&mut self, name: &str, (message, span): (String, Range<usize>)) -> Reported {
        self.report(Fault::error(self.doc.location(&span), name, message))
    }

    fn variable(&self, variable: &str) -> Result<String, String> {
        match self.env.get(variable) {
            Some(value) => Ok(value.to_owned()),
            None if self.env.is_set_but_empty(variable) => {
                Err(format!("the environment variable {} is empty", shown_name(variable)))
            }
            None if !is_variable_name(variable) => Err(
                "no environment variable has this name: env takes a name, not the secret itself"
                    .to_owned(),
            ),
            None if variable.starts_with('$') => Err(format!(
                "no environment variable is named {variable}: write {:?}",
                variable.trim_matches(['$', '{', '}'])
            )),
            None => Err(format!("the environment variable {variable} is not set")),
        }
    }

    fn secret_file(&self, path: &str) -> Result<String, String> {
        let full = self.base.join(path);
        read_secret(&full).map_err(|why| format!("cannot read {}: {why}", full.display()))
    }
}

/// Checks that a secret can go into a header as it is. Which of its characters is wrong is not
/// disclosed. `source` is where it was, for the message.
pub(crate) fn visible_ascii(secret: String, source: &str) -> Result<Secret<String>, String> {
    match secret.as_bytes() {
        [] => Err(format!("an empty secret{source}")),
        bytes if bytes.iter().all(u8::is_ascii_graphic) => Ok(Secret::new(secret)),
        _ => Err(format!(
            "the secret{source} has a character that is not visible ASCII (a space, a line break?)"
        )),
    }
}

fn shown_name(variable: &str) -> &str {
    if is_variable_name(variable) { variable } else { MASK }
}

fn malformed_secret(span: Range<usize>) -> (String, Range<usize>) {
    (format!("expected {SECRET_FORMS}"), span)
}

fn value_type(path: &[&str]) -> ValueType {
    key_paths::find(path).map_or(ValueType::Unknown, |key| key.value_type)
}

/// Creates the error that a value is not of its key's type.
fn wrong(location: Location, name: String, key: &Key, value: &DeValue<'_>) -> Fault {
    let fault = Fault::error(location, name, format!("expected {}", key.value_type.expected()));
    if key.is_secret() {
        return fault;
    }
    fault.found(values::quoted_value(value)).hint(values::correction(key.value_type, value))
}
