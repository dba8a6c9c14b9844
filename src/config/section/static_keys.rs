//! `auth.static_keys`: the keys of clients other than GitLab, each with its permissions.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use crate::auth::StaticKey;
use crate::config::toml::diagnostic::{Fault, Reported, Severity};
use crate::config::toml::reader::Reader;
use crate::config::toml::suggest;
use crate::config::toml::values::{any_integer, quoted_value};
use crate::model::ModelId;

/// Path of the array.
pub(crate) const PATH: &[&str] = &["auth", "static_keys"];
const OPTIONS: [&str; 4] = ["name", "models", "requests_per_minute", "tokens_per_minute"];

/// Characters of the shortest key that cannot be guessed.
const SHORTEST: usize = 16;

/// Reads the keys; when none are configured there are none. `is_public` is whether strangers can
/// reach the listener.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    is_public: bool,
) -> Result<Vec<Arc<StaticKey>>, Reported> {
    let Some(entry) = reader.doc.get(PATH) else { return Ok(Vec::new()) };
    let before = reader.faults.len();
    let Some(items) = entry.value.as_array() else {
        return Err(reader.wrong(PATH, &entry.span, entry.value));
    };
    if items.is_empty() {
        reader.error(PATH, &entry.span, "expected at least one key");
    }
    let mut keys: Vec<Arc<StaticKey>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("auth.static_keys[{index}]");
        let Ok(key) = (Item { path, index, is_public }).read(reader, item) else { continue };
        if keys.iter().any(|known| known.name == key.name) {
            reader.error(PATH, &item.span(), format!("two keys are named {:?}", &*key.name));
        }
        if keys.iter().any(|known| known.has_same_secret(&key)) {
            reader.error(PATH, &item.span(), "the same key twice");
        }
        keys.push(Arc::new(key));
    }
    if reader.faults[before..].iter().any(|fault| fault.severity == Severity::Error) {
        return Err(Reported);
    }
    Ok(keys)
}

type OptionName<'d> = Spanned<DeString<'d>>;
type Value<'d> = Spanned<DeValue<'d>>;

/// One item of the array.
struct Item {
    /// Its path, for faults.
    path: String,
    index: usize,
    is_public: bool,
}

impl Item {
    fn read(&self, reader: &mut Reader<'_>, item: &Value<'_>) -> Result<StaticKey, Reported> {
        let secret = reader.secret_with_options(&self.path, item, &OPTIONS);
        let bytes = secret.as_ref().map_or(&[][..], |secret| secret.expose().as_bytes());
        if self.is_public && secret.is_ok() && bytes.len() < SHORTEST {
            let message = "a key of less than 16 characters can be guessed by strangers, who reach server.listen";
            let fault = reader.error(PATH, &item.span(), message);
            fault.hint = Some("openssl rand -hex 32 makes a good one".to_owned());
        }
        let mut key = StaticKey::new(bytes, format!("#{}", self.index + 1));
        for (option, value) in item.get_ref().as_table().into_iter().flatten() {
            match &**option.get_ref() {
                "name" => key.name = self.name(reader, option, value).unwrap_or(key.name),
                "models" => key.models = self.models(reader, option, value),
                "requests_per_minute" => {
                    key.rate_limits.requests = self.rate(reader, option, value)
                }
                "tokens_per_minute" => key.rate_limits.tokens = self.rate(reader, option, value),
                _ => {}
            }
        }
        secret.map(|_| key)
    }

    /// Reads the name. It goes into the log and, with `limits.shared`, into the names of the
    /// counters there.
    fn name(
        &self,
        reader: &mut Reader<'_>,
        option: &OptionName<'_>,
        value: &Value<'_>,
    ) -> Option<Box<str>> {
        const EXPECTED: &str = "expected a name of 1 to 100 visible ASCII characters";
        let is_good = |text: &&str| {
            (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let name = value.get_ref().as_str().filter(is_good);
        if name.is_none() {
            // not quoted: it may be the key itself
            self.error(reader, option, value, EXPECTED).found = None;
        }
        name.map(Into::into)
    }

    /// Reads the names of the models that the key is for.
    fn models(
        &self,
        reader: &mut Reader<'_>,
        option: &OptionName<'_>,
        value: &Value<'_>,
    ) -> Option<Box<[ModelId]>> {
        const EXPECTED: &str = "expected an array of models' names like [\"codestral\"]";
        let Some(items) = value.get_ref().as_array().filter(|items| !items.is_empty()) else {
            self.error(reader, option, value, EXPECTED);
            return None;
        };
        let known = reader.doc.names(&["models"]);
        let mut models = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(name) if known.contains(&name) => models.push(name.into()),
                Some(name) => {
                    let hint = match suggest::nearest(name, known.iter().copied()) {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => format!("models of this file: {}", known.join(", ")),
                    };
                    let fault = self.error(reader, option, item, "no model of this file");
                    fault.hint = Some(hint);
                }
                None => _ = self.error(reader, option, item, "expected a model's name"),
            }
        }
        Some(models.into())
    }

    /// Reads a rate per minute.
    fn rate(
        &self,
        reader: &mut Reader<'_>,
        option: &OptionName<'_>,
        value: &Value<'_>,
    ) -> Option<u32> {
        let rate = any_integer(value.get_ref()).and_then(|number| u32::try_from(number).ok());
        let rate = rate.filter(|rate| (1..=1_000_000_000).contains(rate));
        if rate.is_none() {
            self.error(reader, option, value, "expected a whole number from 1 to 1000000000");
        }
        rate
    }

    /// Collects an error about an option's value.
    fn error<'r>(
        &self,
        reader: &'r mut Reader<'_>,
        option: &OptionName<'_>,
        value: &Value<'_>,
        message: &str,
    ) -> &'r mut Fault {
        let fault = reader.error(PATH, &value.span(), message);
        fault.key = format!("{}.{}", self.path, option.get_ref());
        fault.found = Some(quoted_value(value.get_ref()));
        fault
    }
}
