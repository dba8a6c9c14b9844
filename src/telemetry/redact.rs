//! Masks what looks like a key in a text, wherever it comes from: a user's prompt, a model's
//! response, a field of a client's request.

/// The replacement of a key.
const MASK: &str = "•••";
/// Prefixes of the keys of providers, forges and clouds.
const PREFIXES: [&str; 25] = [
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glptt-",
    "glft-",
    "glsoat-",
    "glimt-",
    "glagent-",
    "sk-",
    "AKIA",
    "ASIA",
    "ABSK",
    "AIza",
    "ya29.",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "hf_",
    "xoxb-",
    "xoxp-",
    "npm_",
];
/// Bytes of the shortest key: `sk-learn` is a library.
const SHORTEST: usize = 12;
/// Names of JSON fields and headers whose value is a secret, in lower case.
const NAMES: [&str; 8] = [
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "password",
    "passwd",
    "secret",
    "access_token",
];

/// Returns the text with keys masked: bearer tokens, JWTs, keys with a known prefix, PEM blocks, and
/// the values of fields with a secret's name.
pub(super) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // whether the next word is a secret, whatever it looks like
    let mut follows = false;
    while !rest.is_empty() {
        if let Some(length) = pem(rest) {
            out.push_str(MASK);
            rest = &rest[length..];
            continue;
        }
        let (word, tail) = rest.split_at(word_end(rest));
        if word.is_empty() {
            let gap = rest.chars().next().map_or(rest.len(), char::len_utf8);
            // the value of a name ends with the line
            follows &= !rest.starts_with(['\n', '\r', ',', ';']);
            out.push_str(&rest[..gap]);
            rest = &rest[gap..];
            continue;
        }
        rest = tail;
        if !word.contains(|c: char| c.is_ascii_alphanumeric()) {
            out.push_str(word);
            continue;
        }
        let lower = word.to_ascii_lowercase();
        let is_scheme = matches!(&*lower, "bearer" | "basic");
        if (follows && !is_scheme) || is_key(word, tail.is_empty()) {
            out.push_str(MASK);
            follows = false;
        } else {
            out.push_str(word);
            follows =
                (is_scheme && tail.starts_with(' ')) || (names_a_secret(&lower) && has_value(tail));
        }
    }
    out
}

/// Returns the length of the word at the start: the characters of keys, all others separate words.
fn word_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.+/~=".contains(c))).unwrap_or(text.len())
}

/// Whether a word is a key, or starts like one when `is_cut`: the text ends here and may have been
/// truncated.
fn is_key(word: &str, is_cut: bool) -> bool {
    let word = word.trim_matches(['=', '/', '.', '+']);
    // `password=…`, `key=sk-…`
    let (name, word) = word.split_once('=').unwrap_or(("", word));
    if names_a_secret(&name.to_ascii_lowercase()) {
        return true;
    }
    let is_long = is_cut || word.len() >= SHORTEST;
    let is_known = PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    let is_jwt = word.starts_with("eyJ") && (word.contains('.') || is_cut);
    is_long && (is_known || is_jwt)
}

fn names_a_secret(word: &str) -> bool {
    NAMES.iter().any(|name| word.ends_with(name))
}

/// Whether a value follows a name: `": "`, `=`, `: `.
fn has_value(tail: &str) -> bool {
    tail.trim_start_matches(['"', '\'', '\\', ' ']).starts_with([':', '='])
}

/// Returns the length of the PEM block at the start, up to the end of the text when it is truncated.
/// Line breaks may be escaped as in JSON.
fn pem(text: &str) -> Option<usize> {
    let body = text.strip_prefix("-----BEGIN ")?;
    let end = body.find("-----END ").and_then(|at| {
        let close = body[at + 9..].find("-----")?;
        Some(text.len() - body.len() + at + 9 + close + 5)
    });
    Some(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn keys_are_dots_and_prose_stays() {
        for (text, masked) in [
            ("Authorization: Bearer abc.def", "Authorization: Bearer •••"),
            ("curl -H 'PRIVATE-TOKEN: glpat-0123456789abcdef'", "curl -H 'PRIVATE-TOKEN: •••'"),
            ("key=sk-proj-0123456789", "•••"),
            ("use sk-0123456789abcdef, please", "use •••, please"),
            ("AKIAIOSFODNN7EXAMPLE/x", "•••"),
            ("a eyJhbGciOi.eyJzdWIi.c2ln b", "a ••• b"),
            (r#"{"model_api_key":"anything","x":"y"}"#, r#"{"model_api_key":"•••","x":"y"}"#),
            (r#"{"api_key" : "a b","x":1}"#, r#"{"api_key" : "••• b","x":1}"#),
            ("DB_PASSWORD=hunter2 x", "••• x"),
            ("password = hunter2\nnext", "password = •••\nnext"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nafter", "•••\nafter"),
            (r"x -----BEGIN RSA PRIVATE KEY-----\nMIIE", "x •••"),
            ("cut in the middle: glpat-01", "cut in the middle: •••"),
            ("import sklearn; a sk-learn user", "import sklearn; a sk-learn user"),
            ("the password is wrong", "the password is wrong"),
            ("Bearers of news, a basic idea", "Bearers of news, a basic •••"),
            ("ключ «glpat-0123456789abcdef» é", "ключ «•••» é"),
        ] {
            assert_eq!(redacted(text), masked, "{text}");
        }
    }

    #[test]
    fn no_text_breaks_it() {
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let parts = [
                "-----BEGIN ",
                "-----END ",
                "-----",
                "eyJ",
                "\"api_key\":\"",
                "é",
                "\\n",
                "Bearer ",
                "=",
                "•",
                " ",
            ];
            let text: String =
                (0..random.usize(..12)).map(|_| parts[random.usize(..parts.len())]).collect();
            let _ = redacted(&text);
        }
    }
}
