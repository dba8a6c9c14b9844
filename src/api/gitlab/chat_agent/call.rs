//! A native function call of a model: the first of a turn, assembled from its deltas.

use serde_json::Value;

/// Longest arguments in bytes; the rest is dropped. The input is a question or a reference.
const MAX_ARGUMENTS: usize = 256 << 10;

/// The first call of a turn. GitLab runs one at a time, so the others are dropped.
#[derive(Debug)]
pub(super) struct FirstCall {
    index: u32,
    pub(super) name: String,
    arguments: String,
}

impl FirstCall {
    /// Creates a call without name and arguments; `index` is the model server's index of it.
    pub(super) fn new(index: u32) -> Self {
        Self { index, name: String::new(), arguments: String::new() }
    }

    /// Appends a delta; deltas of other calls are ignored.
    pub(super) fn feed(&mut self, index: u32, name: Option<&str>, arguments: &str) {
        if index != self.index {
            return;
        }
        self.name.push_str(name.filter(|_| self.name.is_empty()).unwrap_or_default());
        if self.arguments.len() + arguments.len() <= MAX_ARGUMENTS {
            self.arguments.push_str(arguments);
        }
    }

    /// Returns the tool's input: the argument `input`, or the first one of models that do not keep
    /// to the schema, or all of the text if it is not an object.
    pub(super) fn input(&self) -> String {
        let value = match serde_json::from_str::<Value>(&self.arguments) {
            Ok(Value::Object(mut map)) => {
                let first = map.keys().next().cloned().unwrap_or_default();
                map.remove("input").or_else(|| map.remove(&first)).unwrap_or_default()
            }
            Ok(other) => other,
            Err(_) => Value::String(self.arguments.trim().to_owned()),
        };
        match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FirstCall;

    #[test]
    fn the_input_is_found_in_any_form() {
        for (arguments, expected) in [
            (r##"{"input":"#1"}"##, "#1"),
            (r##"{"reason":"x","input":"#1"}"##, "#1"),
            (r##"{"issue":"#1"}"##, "#1"),
            (r#"{"input":7}"#, "7"),
            (r##""#1""##, "#1"),
            ("{}", ""),
            ("", ""),
            ("issue #1 ", "issue #1"),
        ] {
            let mut call = FirstCall::new(3);
            call.feed(3, Some("issue_reader"), "");
            arguments.chars().for_each(|c| call.feed(3, None, c.encode_utf8(&mut [0; 4])));
            call.feed(4, Some("epic_reader"), "{}");
            assert_eq!(
                (call.name.as_str(), call.input().as_str()),
                ("issue_reader", expected),
                "{arguments}"
            );
        }
    }
}
