//! JSON lines as GitLab's chat reads them (contract::gitlab_client §7.2): one object per line, each
//! line ended by `\n` alone, nothing but ASCII, so that no character is split between two reads.

use std::io;

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Appends `value` as one line. `value` is an object with string keys; anything that cannot be
/// serialized as JSON appends nothing.
pub fn write_json_line(value: &(impl Serialize + ?Sized), out: &mut BytesMut) {
    let before = out.len();
    if value.serialize(&mut Serializer::with_formatter(out.writer(), Ascii)).is_err() {
        out.truncate(before);
        return;
    }
    out.put_u8(b'\n');
}

/// Formatter of compact JSON that escapes every non-ASCII character; line breaks are escaped by
/// JSON itself.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii()) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            for unit in chars.next().into_iter().flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec())
            {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::{Value, json};

    use super::write_json_line;

    #[test]
    fn a_line_is_ascii_and_reads_back() {
        let value = json!({"type": "final_answer_delta", "data": {"text": "Grüße 😀\r\n\u{2028}\"\\ }\n{\u{7f}"}});
        let mut out = BytesMut::from("{}\n");
        write_json_line(&value, &mut out);
        let text = std::str::from_utf8(&out).unwrap();
        assert!(
            text.is_ascii() && text.ends_with("\"}}\n") && text.matches('\n').count() == 2,
            "{text}"
        );
        assert!(text.contains("Gr\\u00fc\\u00dfe \\ud83d\\ude00\\r\\n\\u2028"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(text.lines().nth(1).unwrap()).unwrap(), value);
    }

    #[test]
    fn a_value_that_is_no_json_appends_nothing() {
        let mut out = BytesMut::new();
        write_json_line(&std::collections::BTreeMap::from([((1, 2), 3)]), &mut out);
        assert!(out.is_empty());
    }
}
