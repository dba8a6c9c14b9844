//! What a key of the file is: the type of its value, its default, whether this version acts on it.

/// Type of a key that names a PEM file.
pub(crate) const PEM: &str = "a PEM file";
/// Type of a limit on a connection attempt.
pub(crate) const CONNECT: ValueType = ValueType::Duration("10ms", "60s");
/// Type of a limit on a silence.
pub(crate) const WAIT: ValueType = ValueType::Duration("10ms", "30m");
/// Type of a limit on a whole request.
pub(crate) const TOTAL: ValueType = ValueType::Duration("10ms", "2h");
/// Type of a limit on the time in a queue.
pub(crate) const QUEUE_WAIT: ValueType = ValueType::Duration("1ms", "5m");
/// Default of a model's or a feature's own timeouts.
pub(crate) const OF_TIMEOUTS: DefaultValue = DefaultValue::Example("\"30s\"", "from [timeouts]");

/// One key.
pub(crate) struct Key {
    /// Path like `limits.max_body`. `{name}` stands for any name, `{feature}` for a feature or
    /// `default`.
    pub(crate) path: &'static str,
    /// Type and bounds of its value.
    pub(crate) value_type: ValueType,
    /// What applies when the key is not set.
    pub(crate) default: DefaultValue,
    /// Whether this version acts on it.
    pub(crate) support: Support,
    /// One line for the operator.
    pub(crate) doc: &'static str,
}

/// Type of a key's value; bounds are inclusive and written as the file writes them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueType {
    /// Socket address like `"127.0.0.1:5052"`.
    Address,
    /// Duration like `"60s"`: minimum, maximum.
    Duration(&'static str, &'static str),
    /// Size like `"16MiB"`: minimum, maximum.
    Size(&'static str, &'static str),
    /// Whole number: minimum, maximum.
    Integer(i64, i64),
    /// Number: minimum, maximum.
    Number(f64, f64),
    /// One of these strings.
    Keyword(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// String; the text says of what kind, for faults.
    String(&'static str),
    /// Array of strings; the text says of what kind, for faults.
    Strings(&'static str),
    /// `{ env = "…" }`, `{ file = "…" }` or, with a warning, a string.
    Secret,
    /// Array of secrets.
    Secrets,
    /// A model's name, `"disabled"`, `"gitlab"` or a table with `model`.
    Choice,
    /// Type of a path that is no key: no value fits.
    Unknown,
}

/// What applies when a key is not set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DefaultValue {
    /// This value, as TOML.
    Fixed(&'static str),
    /// No fixed value: an example, as TOML, and what applies instead, in words.
    Example(&'static str, &'static str),
}

/// Whether this version acts on a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Support {
    /// For every model.
    Full,
    /// For no one: setting it is a warning.
    NotYet,
    /// For models of providers with these labels only: setting it for another is an error.
    Only(&'static [&'static str]),
}

/// Creates a key with full support.
pub(crate) const fn key(
    path: &'static str,
    value_type: ValueType,
    default: DefaultValue,
    doc: &'static str,
) -> Key {
    Key { path, value_type, default, support: Support::Full, doc }
}

impl Key {
    /// Returns the key with another support.
    pub(crate) const fn support(mut self, support: Support) -> Self {
        self.support = support;
        self
    }

    /// Returns the default as TOML, or `None` when there is no fixed one.
    pub(crate) const fn fixed_default(&self) -> Option<&'static str> {
        match self.default {
            DefaultValue::Fixed(text) => Some(text),
            DefaultValue::Example(..) => None,
        }
    }

    /// Returns whether its value must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.value_type, ValueType::Secret | ValueType::Secrets)
    }
}

/// What a fault expects where a secret is missing or malformed.
pub(crate) const SECRET_FORMS: &str = "{ env = \"NAME\" } or { file = \"/run/secrets/name\" }";

impl ValueType {
    /// Returns what a fault lists as expected, in words.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Address => "an address and port like \"127.0.0.1:5052\"".to_owned(),
            Self::Duration(min, max) => format!("a duration from {min} to {max} like \"60s\""),
            Self::Size(min, max) => format!("a size from {min} to {max} like \"16MiB\""),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Keyword(keywords) => {
                let quoted: Vec<String> = keywords.iter().map(|word| format!("{word:?}")).collect();
                match quoted.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        format!("{} or {last}", rest.join(", "))
                    }
                    _ => quoted.concat(),
                }
            }
            Self::Bool => "true or false".to_owned(),
            Self::String(what) | Self::Strings(what) => what.to_owned(),
            Self::Secret => SECRET_FORMS.to_owned(),
            Self::Secrets => "an array like [{ env = \"NAME\" }]".to_owned(),
            Self::Choice => {
                "a model's name, \"gitlab\", \"disabled\", or a table like { model = \"…\" }"
                    .to_owned()
            }
            Self::Unknown => "another value".to_owned(),
        }
    }
}
