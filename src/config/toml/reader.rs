//! A typed reader over the tree: each read takes the file's value, else the environment's, else the
//! key's default; notes where it came from; and on a bad value notes a fault and goes on.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use crate::config::config::{Origin, Provenance, Setting};
use crate::config::load::Environment;
use crate::config::toml::diagnostic::{
    Fault, MASK, Place, is_variable_name, may_carry_secret, quoted,
};
use crate::config::toml::document::{Document, path_text};
use crate::config::toml::keys::{self, Key, Takes};
use crate::config::toml::suggest;
use crate::config::toml::units;
use crate::config::toml::variables;
use crate::model::EndpointUrl;
use crate::secret::Secret;

/// The document being read, and what was found on the way.
pub(crate) struct Reader<'d> {
    pub(crate) doc: &'d Document<'d>,
    pub(crate) env: &'d Environment,
    /// Directory of the file: what relative paths in it are relative to.
    pub(crate) base: PathBuf,
    pub(crate) faults: Vec<Fault>,
    pub(crate) provenance: Provenance,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(doc: &'d Document<'d>, env: &'d Environment, file: &Path) -> Self {
        let base = file.parent().map(Path::to_owned).unwrap_or_default();
        Self { doc, env, base, faults: Vec::new(), provenance: Provenance::default() }
    }

    /// `"127.0.0.1:5052"`; `localhost` is 127.0.0.1.
    pub(crate) fn address(&mut self, path: &[&str]) -> Option<SocketAddr> {
        self.leaf(path, |value| {
            let text = value.as_str()?;
            text.parse()
                .ok()
                .or_else(|| format!("127.0.0.1{}", text.strip_prefix("localhost")?).parse().ok())
        })
    }

    pub(crate) fn duration(&mut self, path: &[&str]) -> Option<Duration> {
        let Takes::Duration(min, max) = takes(path) else { return None };
        let bounds = units::duration(min)?..=units::duration(max)?;
        self.leaf(path, |value| {
            units::duration(value.as_str()?).filter(|duration| bounds.contains(duration))
        })
    }

    /// Bytes.
    pub(crate) fn size(&mut self, path: &[&str]) -> Option<u64> {
        let Takes::Size(min, max) = takes(path) else { return None };
        let bounds = units::size(min)?..=units::size(max)?;
        self.leaf(path, |value| units::size(value.as_str()?).filter(|size| bounds.contains(size)))
    }

    pub(crate) fn integer(&mut self, path: &[&str]) -> Option<usize> {
        let Takes::Integer(min, max) = takes(path) else { return None };
        self.leaf(path, |value| {
            let number = whole(value)?;
            usize::try_from(number).ok().filter(|_| (min..=max).contains(&number))
        })
    }

    pub(crate) fn number(&mut self, path: &[&str]) -> Option<f64> {
        let Takes::Number(min, max) = takes(path) else { return None };
        self.leaf(path, |value| {
            let whole = value.as_integer().map(|number| number.as_str());
            let text = value.as_float().map(|number| number.as_str()).or(whole)?;
            text.parse().ok().filter(|number| (min..=max).contains(number))
        })
    }

    pub(crate) fn boolean(&mut self, path: &[&str]) -> Option<bool> {
        self.leaf(path, |value| value.as_bool())
    }

    /// One of the key's words.
    pub(crate) fn word(&mut self, path: &[&str]) -> Option<&'static str> {
        let Takes::Word(words) = takes(path) else { return None };
        self.leaf(path, |value| words.iter().find(|word| Some(**word) == value.as_str()).copied())
    }

    pub(crate) fn text(&mut self, path: &[&str]) -> Option<String> {
        self.leaf(path, |value| value.as_str().map(str::to_owned))
    }

    /// An address that is no model server's: no `/v1` is guessed.
    pub(crate) fn url(&mut self, path: &[&str]) -> Option<EndpointUrl> {
        let text = self.text(path)?;
        let why = match EndpointUrl::parse(&text) {
            Ok(url) => return Some(url),
            Err(why) => why,
        };
        let meant = format!("https://{}", text.trim_start_matches('/'));
        let hint = !text.contains("://") && EndpointUrl::parse(&meant).is_ok();
        let fault =
            self.fault_of(&path.join("."), format!("expected {}: {why}", takes(path).expected()));
        let fault = if may_carry_secret(&text) { fault } else { fault.said(quoted(&text)) };
        self.faults.push(fault.hint(hint.then(|| format!("did you mean {meant:?}?"))));
        None
    }

    /// Strings with their places.
    pub(crate) fn texts(&mut self, path: &[&str]) -> Option<Vec<(String, Range<usize>)>> {
        self.leaf(path, |value| {
            let item = |item: &Spanned<DeValue<'_>>| {
                Some((item.get_ref().as_str()?.to_owned(), item.span()))
            };
            value.as_array()?.iter().map(item).collect()
        })
    }

    /// The value of a secret. Absent and faulty are both `None`; the latter is noted.
    pub(crate) fn secret(&mut self, path: &[&str]) -> Option<Secret<String>> {
        let entry = self.doc.get(path)?;
        self.secret_value(&path_text(path), entry.value, &entry.span)
    }

    /// A key in PEM, which has line breaks and goes into no header.
    pub(crate) fn pem(&mut self, path: &[&str]) -> Option<(Secret<String>, Range<usize>)> {
        let entry = self.doc.get(path)?;
        let pem =
            self.secret_with(&path_text(path), entry.value, &entry.span, |secret, from| {
                if secret.is_empty() {
                    Err(format!("an empty secret{from}"))
                } else {
                    Ok(Secret::new(secret))
                }
            })?;
        Some((pem, entry.span))
    }

    /// A secret in whose table more may be said: these options. Any other is noted.
    pub(crate) fn secret_among(
        &mut self,
        name: &str,
        item: &Spanned<DeValue<'_>>,
        options: &[&str],
    ) -> Option<Secret<String>> {
        let (value, span) = (item.get_ref(), item.span());
        let Some(table) = value.as_table() else { return self.secret_value(name, value, &span) };
        let (mut sources, mut is_good) = (Vec::new(), true);
        for (option, value) in table {
            match &**option.get_ref() {
                "env" | "file" => sources.push((option, value)),
                other if options.contains(&other) => {}
                other => {
                    let fault = Fault::error(
                        self.doc.place(&option.span()),
                        format!("{name}.{other}"),
                        "unknown key",
                    );
                    let meant =
                        suggest::nearest(other, options.iter().copied().chain(["env", "file"]));
                    let known = format!("known here: env, file, {}", options.join(", "));
                    self.faults.push(
                        fault.hint(Some(
                            meant.map_or(known, |meant| format!("did you mean {meant}?")),
                        )),
                    );
                    is_good = false;
                }
            }
        }
        let secret = match sources[..] {
            [(kind, value)] => self.source(kind, value, visible),
            _ => Err((SECRET_FORMS.to_owned(), span)),
        };
        self.told(name, secret).filter(|_| is_good)
    }

    /// Notes an error about a place of the file.
    pub(crate) fn error(
        &mut self,
        path: &[&str],
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Fault {
        self.push(Fault::error(self.doc.place(span), path_text(path), message))
    }

    /// Notes a warning about a place of the file.
    pub(crate) fn warning(
        &mut self,
        path: &[&str],
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Fault {
        self.push(Fault::warning(self.doc.place(span), path_text(path), message))
    }

    /// An error of a value in force, wherever it came from: a line of the file, a variable, a
    /// default.
    pub(crate) fn fault_of(&self, key: &str, message: impl Into<String>) -> Fault {
        let path: Vec<&str> = key.split('.').collect();
        match (self.doc.get(&path), self.provenance.origin(key)) {
            (Some(entry), _) => Fault::error(self.doc.place(&entry.span), key, message),
            (None, Origin::Variable(variable)) => {
                Fault::error(Place::Environment, variable, message)
            }
            (None, Origin::Line(_) | Origin::Default) => {
                Fault::error(Place::File(self.doc.file().clone()), key, message)
            }
        }
    }

    /// Notes that a value is not what its key takes.
    pub(crate) fn wrong(&mut self, path: &[&str], span: &Range<usize>, value: &DeValue<'_>) {
        let Some(key) = keys::find(path) else { return };
        let fault = wrong(self.doc.place(span), path_text(path), key, value);
        self.faults.push(fault);
    }

    fn push(&mut self, fault: Fault) -> &mut Fault {
        let at = self.faults.len();
        self.faults.push(fault);
        &mut self.faults[at]
    }

    fn leaf<T>(&mut self, path: &[&str], read: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<T> {
        if let Some(entry) = self.doc.get(path) {
            let value = read(entry.value);
            if value.is_none() {
                self.wrong(path, &entry.span, entry.value);
            }
            return value;
        }
        let key = keys::find(path)?;
        let name = path_text(path);
        let said = variables::value_of(key.path, key.default(), self.env, &mut self.faults);
        let (toml, origin) = match (said, key.default()) {
            (Some((toml, variable)), _) => (toml, Origin::Variable(variable)),
            (None, Some(default)) => (default.to_owned(), Origin::Default),
            (None, None) => return None,
        };
        let value = DeValue::parse(&toml).ok()?;
        let read = read(value.get_ref());
        if read.is_none() {
            let variable = if let Origin::Variable(variable) = &origin {
                variable.clone()
            } else {
                name.clone()
            };
            self.faults.push(wrong(Place::Environment, variable, key, value.get_ref()));
        }
        self.provenance.note(name, Setting { value: toml, origin });
        read
    }

    fn secret_value(
        &mut self,
        name: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
    ) -> Option<Secret<String>> {
        self.secret_with(name, value, span, visible)
    }

    fn secret_with(
        &mut self,
        name: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        check: impl Fn(String, &str) -> Result<Secret<String>, String>,
    ) -> Option<Secret<String>> {
        let secret = match value {
            DeValue::String(text) => {
                let plain = Fault::warning(self.doc.place(span), name, "a secret in plain text")
                    .hint(Some(
                        "say { env = \"NAME\" } or { file = \"/run/secrets/name\" } instead".into(),
                    ));
                self.faults.push(plain);
                check(text.to_string(), "").map_err(|message| (message, span.clone()))
            }
            DeValue::Table(table) => match (table.len(), table.iter().next()) {
                (1, Some((kind, value))) => self.source(kind, value, check),
                _ => Err((SECRET_FORMS.to_owned(), span.clone())),
            },
            _ => Err((SECRET_FORMS.to_owned(), span.clone())),
        };
        self.told(name, secret)
    }

    /// The secret in a variable or a file.
    fn source(
        &self,
        kind: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        check: impl Fn(String, &str) -> Result<Secret<String>, String>,
    ) -> Read {
        let (found, from) = match (&**kind.get_ref(), value.get_ref().as_str()) {
            ("env", Some(name)) => (self.variable(name), format!(" in {}", shown_name(name))),
            ("file", Some(path)) => (self.secret_file(path), format!(" in {path}")),
            _ => return Err((SECRET_FORMS.to_owned(), kind.span())),
        };
        found.and_then(|secret| check(secret, &from)).map_err(|message| (message, value.span()))
    }

    /// Notes why a secret could not be read.
    fn told(&mut self, name: &str, secret: Read) -> Option<Secret<String>> {
        secret
            .map_err(|(message, span)| {
                self.faults.push(Fault::error(self.doc.place(&span), name, message))
            })
            .ok()
    }

    fn variable(&self, variable: &str) -> Result<String, String> {
        match self.env.get(variable) {
            Some(value) => Ok(value.to_owned()),
            None if self.env.is_set_to_nothing(variable) => {
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
        crate::config::load::read_secret(&full)
            .map_err(|why| format!("cannot read {}: {why}", full.display()))
    }
}

/// A secret goes into a header as it is; which character of it is wrong is not told. `from` says
/// where it was.
pub(crate) fn visible(secret: String, from: &str) -> Result<Secret<String>, String> {
    match secret.as_bytes() {
        [] => Err(format!("an empty secret{from}")),
        bytes if bytes.iter().all(u8::is_ascii_graphic) => Ok(Secret::new(secret)),
        _ => Err(format!(
            "the secret{from} has a character that is not visible ASCII (a space, a line break?)"
        )),
    }
}

fn shown_name(variable: &str) -> &str {
    if is_variable_name(variable) { variable } else { MASK }
}

/// A secret, or why there is none and where that is.
type Read = Result<Secret<String>, (String, Range<usize>)>;

/// A whole number.
pub(crate) fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

const SECRET_FORMS: &str = "expected { env = \"NAME\" } or { file = \"/run/secrets/name\" }";

fn takes(path: &[&str]) -> Takes {
    keys::find(path).map_or(Takes::Unread, |key| key.takes)
}

fn wrong(place: Place, name: String, key: &Key, value: &DeValue<'_>) -> Fault {
    let fault = Fault::error(place, name, format!("expected {}", key.takes.expected()));
    if key.is_secret() { fault } else { fault.said(said(value)).hint(hint(key.takes, value)) }
}

/// A value as a fault quotes it.
pub(crate) fn said(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if may_carry_secret(text) => format!("\"{MASK}\""),
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// What was probably meant.
fn hint(takes: Takes, value: &DeValue<'_>) -> Option<String> {
    let text = match value {
        DeValue::String(text) => text.trim().to_owned(),
        other => said(other),
    };
    let meant = match takes {
        Takes::Address if text.starts_with(':') => format!("0.0.0.0{text}"),
        Takes::Address if text.parse::<u16>().is_ok() => format!("127.0.0.1:{text}"),
        Takes::Address if text.parse::<std::net::IpAddr>().is_ok() => {
            return Some("the port is missing".to_owned());
        }
        Takes::Duration(..) if text.parse::<u32>().is_ok() => format!("{text}s"),
        Takes::Size(..) if text.parse::<u32>().is_ok() => format!("{text}B"),
        Takes::Size(..) => {
            let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = text.strip_prefix(number)?.chars().next()?.to_ascii_uppercase();
            Some(format!("{number}{unit}iB"))
                .filter(|meant| units::size(meant).is_some() && *meant != text)?
        }
        Takes::Word(words) => suggest::nearest(&text, words.iter().copied())?.to_owned(),
        Takes::Integer(..) | Takes::Number(..) | Takes::Bool if value.is_str() => {
            let is_meant = text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok();
            return is_meant.then(|| format!("without quotes: {text}"));
        }
        Takes::Texts(_) if value.is_str() => return Some(format!("in brackets: [{text:?}]")),
        _ => return None,
    };
    Some(format!("did you mean {meant:?}?"))
}

impl Takes {
    /// What a fault says was expected.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Address => "an address and port like \"127.0.0.1:5052\"".to_owned(),
            Self::Duration(min, max) => format!("a duration from {min} to {max} like \"60s\""),
            Self::Size(min, max) => format!("a size from {min} to {max} like \"16MiB\""),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                match quoted.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        format!("{} or {last}", rest.join(", "))
                    }
                    _ => quoted.concat(),
                }
            }
            Self::Bool => "true or false".to_owned(),
            Self::Text(what) | Self::Texts(what) => what.to_owned(),
            Self::Secret => SECRET_FORMS.trim_start_matches("expected ").to_owned(),
            Self::Secrets => "an array like [{ env = \"NAME\" }]".to_owned(),
            Self::Choice => {
                "a model's name, \"gitlab\", \"disabled\", or a table like { model = \"…\" }"
                    .to_owned()
            }
            Self::Unread => "another value".to_owned(),
        }
    }
}
