//! `differences.toml`: where Weir deliberately answers otherwise than the official gateway, and why
//! that is better for the user. A case listed there must differ, and in the way that is written
//! down.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixtures::{Case, folder, patched};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    difference: Vec<Difference>,
}

/// One decision and the cases that show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    /// What Weir does.
    pub(crate) what: String,
    /// Why that is better.
    pub(crate) why: String,
    pub(crate) cases: Vec<String>,
    /// What to change in the recorded answer; `$gone` takes a key away.
    answer: Option<Value>,
    /// What to change in what the model server was recorded to receive.
    sent: Option<Value>,
}

impl Difference {
    /// The case with what Weir does instead.
    pub(crate) fn of(&self, name: &str, fields: &Value) -> Case {
        let patch = json!({"answer": self.answer.as_ref().map_or_else(|| json!({}), without_gone),
            "sent": self.sent.as_ref().map_or_else(|| json!({}), without_gone)});
        Case::of(name, patched(fields.clone(), patch))
    }
}

/// TOML has no null.
fn without_gone(patch: &Value) -> Value {
    match patch {
        Value::String(text) if text == "$gone" => Value::Null,
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), without_gone(value))).collect()
        }
        other => other.clone(),
    }
}

/// The table, and who is in it by case. A case stands in it once.
pub(crate) fn all() -> (Vec<Difference>, BTreeMap<String, usize>) {
    let text = fs::read_to_string(folder().join("differences.toml")).unwrap();
    let table: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut by_case = BTreeMap::new();
    for (at, difference) in table.difference.iter().enumerate() {
        assert!(!difference.why.is_empty() && !difference.cases.is_empty(), "{}", difference.what);
        for case in &difference.cases {
            assert_eq!(by_case.insert(case.clone(), at), None, "{case} is listed twice");
        }
    }
    (table.difference, by_case)
}
