//! The exchanges in `fixtures/`, one file a surface, one line a case. A line names another that it
//! is `like` and says what differs: objects are merged, `null` takes a key away, a list is patched
//! by index (`{"0": …}`) or replaced. Lines with `base` instead of `name` are only for others to be
//! like.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One exchange.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Beside GitLab's own; `"$none"` sends none at all.
    #[serde(default)]
    pub(crate) headers: Value,
    /// The `Host` header, if not the usual one; `"$none"` sends none.
    pub(crate) host: Option<String>,
    pub(crate) body: Option<Value>,
    /// The body where it is no JSON.
    pub(crate) raw: Option<String>,
    /// What the model server does ([`crate::model::reply`]).
    pub(crate) model: Option<String>,
    /// More lines of the gateway's file.
    #[serde(default)]
    pub(crate) file: String,
    pub(crate) answer: Expected,
    pub(crate) sent: Sent,
}

/// The answer that GitLab must get.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// `Content-Type`.
    #[serde(rename = "type")]
    pub(crate) content_type: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The body as text, as JSON, as JSON lines or as server-sent events; neighbouring pieces of
    /// one text count as one.
    pub(crate) text: Option<Value>,
    pub(crate) json: Option<Value>,
    pub(crate) lines: Option<Value>,
    pub(crate) events: Option<Value>,
    /// Whether the connection is cut instead of the body's proper end.
    #[serde(default)]
    pub(crate) cut: bool,
}

/// What the model server must have received.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) calls: Calls,
    pub(crate) path: Option<String>,
    pub(crate) authorization: Option<String>,
    #[serde(rename = "api-key")]
    pub(crate) api_key: Option<String>,
    /// Fields of the body; it may have more.
    pub(crate) body: Option<Value>,
    /// What the model must have read, in this order.
    #[serde(default)]
    pub(crate) carries: Vec<String>,
}

/// How often the model server may be called.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Calls {
    Exactly(usize),
    Between(usize, usize),
}

impl Calls {
    pub(crate) fn admits(self, count: usize) -> bool {
        match self {
            Self::Exactly(calls) => count == calls,
            Self::Between(least, most) => (least..=most).contains(&count),
        }
    }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// All cases, by file and line: name and fields.
pub(crate) fn all() -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(&fs::read_to_string(file).unwrap())).collect()
}

impl Case {
    pub(crate) fn of(name: &str, fields: Value) -> Self {
        let case: Self =
            serde_json::from_value(fields).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), ..case }
    }
}

fn read(text: &str) -> Vec<(String, Value)> {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut cases = Vec::new();
    for line in text.lines() {
        let mut fields: Map<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let mut take =
            |key: &str| fields.remove(key).and_then(|value| value.as_str().map(str::to_owned));
        let (name, base, like) = (take("name"), take("base"), take("like"));
        let like = like.map(|like| {
            known.get(&like).unwrap_or_else(|| panic!("no base {like}: {line}")).clone()
        });
        let whole =
            patched(like.unwrap_or_else(|| Value::Object(Map::new())), Value::Object(fields));
        if let Some(name) = name {
            cases.push((name, whole));
        } else {
            known.insert(base.unwrap_or_else(|| panic!("neither name nor base: {line}")), whole);
        }
    }
    cases
}

/// `patch` on top of `under`.
pub(crate) fn patched(under: Value, patch: Value) -> Value {
    match (under, patch) {
        (Value::Object(mut fields), Value::Object(patches)) => {
            for (key, patch) in patches {
                let under = fields.remove(&key).unwrap_or(Value::Null);
                if !patch.is_null() {
                    fields.insert(key, patched(under, patch));
                }
            }
            Value::Object(fields)
        }
        (Value::Array(mut items), Value::Object(patches))
            if patches.keys().all(|key| key.parse::<usize>().is_ok()) =>
        {
            for (key, patch) in patches {
                let item = &mut items[key.parse::<usize>().unwrap()];
                *item = patched(item.take(), patch);
            }
            Value::Array(items)
        }
        (_, Value::Object(patches)) => patched(Value::Object(Map::new()), Value::Object(patches)),
        (_, patch) => patch,
    }
}
