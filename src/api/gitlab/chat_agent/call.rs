//! A call that a model makes by itself: the first of a turn, put together from its pieces.

use serde_json::Value;

/// Arguments are read up to here; the input is a question or a reference. Bytes.
const LONGEST: usize = 256 << 10;

/// The first call of a turn; GitLab runs one at a time.
#[derive(Debug)]
pub(super) struct FirstCall {
    index: u32,
    pub(super) name: String,
    arguments: String,
}

impl FirstCall {
    /// Begins with its first piece.
    pub(super) fn new(index: u32) -> Self {
        Self { index, name: String::new(), arguments: String::new() }
    }

    /// Takes a piece, if it is this call's.
    pub(super) fn feed(&mut self, index: u32, name: Option<&str>, arguments: &str) {
        if index != self.index {
            return;
        }
        self.name.push_str(name.filter(|_| self.name.is_empty()).unwrap_or_default());
        if self.arguments.len() + arguments.len() <= LONGEST {
            self.arguments.push_str(arguments);
        }
    }

    /// The one string among the arguments. Models that do not keep to the schema mean the only
    /// thing they say.
    pub(super) fn input(&self) -> String {
        let said = match serde_json::from_str::<Value>(&self.arguments) {
            Ok(Value::Object(mut map)) => {
                let first = map.keys().next().cloned().unwrap_or_default();
                map.remove("input").or_else(|| map.remove(&first)).unwrap_or_default()
            }
            Ok(other) => other,
            Err(_) => Value::String(self.arguments.trim().to_owned()),
        };
        match said {
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
    fn an_input_is_found_however_it_was_given() {
        for (arguments, meant) in [
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
                ("issue_reader", meant),
                "{arguments}"
            );
        }
    }
}
