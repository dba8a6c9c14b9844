//! Removes what a model repeats from the file: the line below the cursor, comments and blocks from
//! above it. Only for responses that are not streamed, whose end is known
//! (contract::ai_gateway_server §2.8).

use std::collections::HashSet;

/// From this many lines in a row on, equal lines above the cursor are a repetition and no
/// coincidence.
const MIN_BLOCK_LINES: usize = 5;
/// A block is kept if this share of its characters, in percent, is punctuation: braces repeat in
/// any code.
const PUNCTUATION_PERCENT: usize = 25;

/// Returns a completion without its last line if the file has that line right below the cursor.
pub(super) fn without_line_below<'a>(text: &'a str, below: &str) -> &'a str {
    let same_line = below.lines().next().unwrap_or_default().trim();
    let Some(line) = below.lines().map(str::trim).find(|line| !line.is_empty()) else {
        return text;
    };
    let end = text.trim_end();
    let Some(rest) = end.strip_suffix(line) else { return text };
    // a line of its own, unless the cursor is in the middle of one
    let is_whole = rest.is_empty() || rest.trim_end_matches([' ', '\t']).ends_with('\n');
    let repeats = if line.contains(['}', ')', ']']) {
        has_unopened_brackets(end) && (is_whole || !same_line.is_empty())
    } else {
        is_whole
    };
    if !repeats {
        return text;
    }
    if same_line.is_empty() { rest.trim_end_matches([' ', '\t']) } else { rest }
}

/// Returns whether a text closes brackets that it did not open: then they are the ones that follow
/// it in the file.
fn has_unopened_brackets(text: &str) -> bool {
    let mut open = 0_i64;
    text.chars().any(|char| {
        match char {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open -= 1,
            _ => {}
        }
        open < 0
    })
}

/// Returns generated code without comments that are also above the cursor, and without blocks of
/// five lines or more that are.
pub(super) fn without_lines_above(text: &str, above: &str) -> String {
    let before: Vec<&str> = above.lines().map(str::trim).collect();
    let known: HashSet<&str> = before.iter().copied().filter(|line| !line.is_empty()).collect();
    let pairs: HashSet<(&str, &str)> = before.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while index < lines.len() {
        let line = |index: usize| lines[index].trim();
        let mut end = index;
        if known.contains(line(index)) {
            end += 1;
            while end < lines.len() && pairs.contains(&(line(end - 1), line(end))) {
                end += 1;
            }
        }
        if end - index >= MIN_BLOCK_LINES && !is_punctuation(&lines[index..end].concat()) {
            index = end;
            continue;
        }
        if !(known.contains(line(index)) && is_comment(line(index))) {
            out.push_str(lines[index]);
        }
        index += 1;
    }
    out
}

fn is_comment(line: &str) -> bool {
    ["//", "#", "/*"].iter().any(|marker| line.starts_with(marker))
}

/// Returns whether a block is mostly punctuation ([`PUNCTUATION_PERCENT`]).
fn is_punctuation(text: &str) -> bool {
    let visible = text.chars().filter(|char| !char.is_whitespace());
    let (all, punctuation) = visible.fold((0, 0), |(all, punctuation), char| {
        (all + 1, punctuation + usize::from("()[];.,$%&^*@#!{}/".contains(char)))
    });
    punctuation * 100 >= all * PUNCTUATION_PERCENT
}

#[cfg(test)]
mod tests {
    use super::{without_line_below, without_lines_above};

    #[test]
    fn the_line_below_is_removed() {
        for (text, below, expected) in [
            ("  bar();\n}", "\n}\n", "  bar();\n"),
            ("  if x {\n    y();\n  }", "\n}\n", "  if x {\n    y();\n  }"),
            ("a, b)", ")\n", "a, b"),
            ("f(a)", ")\n", "f(a)"),
            ("x = 1\nreturn x\n", "\nreturn x\n", "x = 1\n"),
            ("return x", "\nreturn xy", "return x"),
            ("my return x", "\nreturn x", "my return x"),
            ("return x", "", "return x"),
            ("a", "\n\n", "a"),
        ] {
            assert_eq!(without_line_below(text, below), expected, "{text:?} before {below:?}");
        }
    }

    #[test]
    fn comments_from_above_are_removed() {
        assert_eq!(
            without_lines_above("# add numbers\nx = 1\n# new\n", "import a\n  # add numbers\n"),
            "x = 1\n# new\n"
        );
        assert_eq!(
            without_lines_above("x = 1\n", "x = 1\n"),
            "x = 1\n",
            "a single line may be intended"
        );
    }

    #[test]
    fn blocks_from_above_are_removed() {
        let block: String = (0..6).map(|n| format!("let value{n} = first{n} + second\n")).collect();
        let above = format!("start\n{block}");
        assert_eq!(without_lines_above(&format!("{block}last\n"), &above), "last\n");
        let four: String = block.split_inclusive('\n').take(4).collect();
        assert_eq!(without_lines_above(&four, &above), four);
        let braces = "}\n})\n})\n}\n}\n".to_owned();
        assert_eq!(without_lines_above(&braces, &braces), braces);
    }
}
