//! What JSON must look like: itself, except that some texts stand for a kind of value.
//!
//! `$int` a whole number, `$text` a text with something in it, `$any` anything but must be there,
//! `$null` null (a plain `null` in a fixture takes a key away). `["$each", shape]` is a list of any
//! length but none.

use serde_json::Value;

/// Every place where `seen` is not of this shape.
pub(crate) fn mismatches(shape: &Value, seen: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(shape, seen, "", Strict::Yes, &mut found);
    found
}

/// As [`mismatches`], but objects may hold more than the shape names.
pub(crate) fn lacks(shape: &Value, seen: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(shape, seen, "", Strict::No, &mut found);
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strict {
    Yes,
    No,
}

fn compare(shape: &Value, seen: &Value, index_path: &str, strict: Strict, found: &mut Vec<String>) {
    match (shape, seen) {
        (Value::String(kind), _) if kind.starts_with('$') => {
            if !is_of_kind(kind, seen) {
                found.push(format!("{index_path}: {seen} is not {kind}"));
            }
        }
        (Value::Object(shapes), Value::Object(fields)) => {
            for (key, shape) in shapes {
                match fields.get(key) {
                    Some(seen) => {
                        compare(shape, seen, &format!("{index_path}.{key}"), strict, found)
                    }
                    None => found.push(format!("{index_path}.{key}: missing")),
                }
            }
            let extra =
                fields.keys().filter(|key| strict == Strict::Yes && !shapes.contains_key(*key));
            found
                .extend(extra.map(|key| format!("{index_path}.{key}: unexpected {}", fields[key])));
        }
        (Value::Array(shapes), Value::Array(items)) => match shapes.as_slice() {
            [Value::String(each), shape] if each == "$each" => {
                if items.is_empty() {
                    found.push(format!("{index_path}: an empty list"));
                }
                let items = items.iter().enumerate();
                items.for_each(|(at, item)| {
                    compare(shape, item, &format!("{index_path}[{at}]"), strict, found)
                });
            }
            _ if shapes.len() != items.len() => {
                found.push(format!(
                    "{index_path}: {} items instead of {}: {seen}",
                    items.len(),
                    shapes.len()
                ));
            }
            _ => shapes.iter().zip(items).enumerate().for_each(|(at, (shape, item))| {
                compare(shape, item, &format!("{index_path}[{at}]"), strict, found)
            }),
        },
        _ if shape == seen => {}
        _ => found.push(format!("{index_path}: {seen} instead of {shape}")),
    }
}

fn is_of_kind(kind: &str, seen: &Value) -> bool {
    match kind {
        "$any" => true,
        "$int" => seen.is_i64() || seen.is_u64(),
        "$null" => seen.is_null(),
        "$text" => seen.as_str().is_some_and(|text| !text.is_empty()),
        other => panic!("no such kind of value: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{lacks, mismatches};

    #[test]
    fn says_where_and_what() {
        let shape = json!({"id": "$int", "list": ["$each", {"text": "$text"}], "at": "$any", "none": "$null", "n": 1});
        let good = json!({"id": 7, "list": [{"text": "x"}], "at": null, "none": null, "n": 1});
        assert_eq!(mismatches(&shape, &good), Vec::<String>::new());
        let bad = json!({"id": "7", "list": [{"text": ""}, {}], "none": 0, "n": 2, "more": true});
        let found = mismatches(&shape, &bad);
        let expected = [
            ".id: \"7\" is not $int",
            ".list[0].text: \"\" is not $text",
            ".list[1].text: missing",
            ".at: missing",
            ".none: 0 is not $null",
            ".n: 2 instead of 1",
            ".more: unexpected true",
        ];
        assert_eq!(found, expected);
        assert_eq!(mismatches(&json!(["$each", "$any"]), &json!([])), [": an empty list"]);
        assert_eq!(mismatches(&json!([1]), &json!([1, 2])), [": 2 items instead of 1: [1,2]"]);
        assert!(lacks(&json!({"n": 1}), &json!({"n": 1, "more": true})).is_empty());
    }
}
