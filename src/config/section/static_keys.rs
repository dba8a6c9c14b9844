//! `auth.static_keys`: the keys of clients that are not GitLab, each with what its holder may do.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use crate::auth::StaticKey;
use crate::config::toml::diagnostic::{Fault, Severity};
use crate::config::toml::reader::{Reader, said, whole};
use crate::config::toml::suggest;
use crate::model::ModelId;

pub(crate) const PATH: &[&str] = &["auth", "static_keys"];
const OPTIONS: [&str; 4] = ["name", "models", "requests_per_minute", "tokens_per_minute"];

/// A shorter key can be guessed. Characters.
const SHORTEST: usize = 16;

/// None of them is an empty list; `None` when there was a fault. `is_public`: strangers may try.
pub(crate) fn read(reader: &mut Reader<'_>, is_public: bool) -> Option<Vec<Arc<StaticKey>>> {
    let Some(at) = reader.doc.get(PATH) else { return Some(Vec::new()) };
    let before = reader.faults.len();
    let Some(items) = at.value.as_array() else {
        reader.wrong(PATH, &at.span, at.value);
        return None;
    };
    if items.is_empty() {
        reader.error(PATH, &at.span, "expected at least one key");
    }
    let mut keys: Vec<Arc<StaticKey>> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let read = Item { path: format!("auth.static_keys[{place}]"), place, is_public }
            .read(reader, item);
        let Some(key) = read else { continue };
        if keys.iter().any(|known| known.name == key.name) {
            reader.error(PATH, &item.span(), format!("two keys are named {:?}", &*key.name));
        }
        if keys.iter().any(|known| known.same_secret(&key)) {
            reader.error(PATH, &item.span(), "the same key twice");
        }
        keys.push(Arc::new(key));
    }
    let is_faulty =
        reader.faults.iter().skip(before).any(|fault| fault.severity == Severity::Error);
    (!is_faulty).then_some(keys)
}

/// One of them.
struct Item {
    path: String,
    place: usize,
    is_public: bool,
}

impl Item {
    fn read(&self, reader: &mut Reader<'_>, item: &Spanned<DeValue<'_>>) -> Option<StaticKey> {
        let secret = reader.secret_among(&self.path, item, &OPTIONS);
        let bytes = secret.as_ref().map_or(&[][..], |secret| secret.expose().as_bytes());
        if self.is_public && secret.is_some() && bytes.len() < SHORTEST {
            let message = "a key of less than 16 characters can be guessed by strangers, who reach server.listen";
            let fault = reader.error(PATH, &item.span(), message);
            fault.hint = Some("openssl rand -hex 32 makes a good one".to_owned());
        }
        let mut key = StaticKey::new(bytes, format!("#{}", self.place + 1));
        for (option, value) in item.get_ref().as_table().into_iter().flatten() {
            match &**option.get_ref() {
                "name" => key.name = self.name(reader, option, value).unwrap_or(key.name),
                "models" => key.models = self.models(reader, option, value),
                "requests_per_minute" => key.rates.requests = self.rate(reader, option, value),
                "tokens_per_minute" => key.rates.tokens = self.rate(reader, option, value),
                _ => {}
            }
        }
        secret.map(|_| key)
    }

    /// It goes into the log and, with `limits.shared`, into the names of the counts there.
    fn name(
        &self,
        reader: &mut Reader<'_>,
        option: &Named<'_>,
        value: &Value<'_>,
    ) -> Option<Box<str>> {
        let text = value.get_ref().as_str();
        let good = text.filter(|text| {
            (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        });
        if good.is_none() {
            // not shown: it may be the key itself
            self.wrong(
                reader,
                option,
                value,
                "expected a name of 1 to 100 visible ASCII characters",
            )
            .said = None;
        }
        good.map(Into::into)
    }

    fn models(
        &self,
        reader: &mut Reader<'_>,
        option: &Named<'_>,
        value: &Value<'_>,
    ) -> Option<Box<[ModelId]>> {
        let Some(items) = value.get_ref().as_array().filter(|items| !items.is_empty()) else {
            self.wrong(
                reader,
                option,
                value,
                "expected an array of models' names like [\"codestral\"]",
            );
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
                    let fault = self.wrong(reader, option, item, "no model of this file");
                    fault.hint = Some(hint);
                }
                None => _ = self.wrong(reader, option, item, "expected a model's name"),
            }
        }
        Some(models.into())
    }

    fn rate(&self, reader: &mut Reader<'_>, option: &Named<'_>, value: &Value<'_>) -> Option<u32> {
        let rate = whole(value.get_ref()).and_then(|number| u32::try_from(number).ok());
        let rate = rate.filter(|rate| (1..=1_000_000_000).contains(rate));
        if rate.is_none() {
            self.wrong(reader, option, value, "expected a whole number from 1 to 1000000000");
        }
        rate
    }

    fn wrong<'r>(
        &self,
        reader: &'r mut Reader<'_>,
        option: &Named<'_>,
        value: &Value<'_>,
        message: &str,
    ) -> &'r mut Fault {
        let fault = reader.error(PATH, &value.span(), message);
        fault.key = format!("{}.{}", self.path, option.get_ref());
        fault.said = Some(said(value.get_ref()));
        fault
    }
}

type Named<'d> = Spanned<DeString<'d>>;
type Value<'d> = Spanned<DeValue<'d>>;
