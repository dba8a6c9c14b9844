//! What is known of a key of the file: what it takes, what holds without it, what comes of it.

/// One key.
pub(crate) struct Key {
    /// `limits.max_body`. `{name}` stands for any name, `{feature}` for a feature or `default`.
    pub(crate) path: &'static str,
    /// What may be said there.
    pub(crate) takes: Takes,
    /// What holds when nothing is said.
    pub(crate) preset: Preset,
    /// Whether anything comes of it.
    pub(crate) acts: Acts,
    /// One line for the operator.
    pub(crate) doc: &'static str,
}

/// What a key takes; the bounds are written as the file writes them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    /// `"127.0.0.1:5052"`
    Address,
    /// `"60s"`, from … to …
    Duration(&'static str, &'static str),
    /// `"16MiB"`, from … to …
    Size(&'static str, &'static str),
    /// A whole number, from … to …
    Integer(i64, i64),
    /// A number, from … to …
    Number(f64, f64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`
    Bool,
    /// A string; what kind, for the fault.
    Text(&'static str),
    /// An array of strings; what kind.
    Texts(&'static str),
    /// `{ env = "…" }`, `{ file = "…" }` or, with a warning, a string.
    Secret,
    /// An array of secrets.
    Secrets,
    /// A model's name, `"disabled"`, `"gitlab"` or a table with `model`.
    Choice,
    /// Something that this version does not read.
    Unread,
}

/// A key's value in a file that does not name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Preset {
    /// This, as TOML.
    Is(&'static str),
    /// Nothing fixed: an example, as TOML, and what holds without it.
    Example(&'static str, &'static str),
}

/// Whether this version acts on a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Acts {
    /// It does.
    Yes,
    /// It does not, and nobody is the worse for it: a warning.
    NotYet,
    /// Only for models of providers with these labels.
    Only(&'static [&'static str]),
}

/// A key that is acted on.
pub(crate) const fn key(
    path: &'static str,
    takes: Takes,
    preset: Preset,
    doc: &'static str,
) -> Key {
    Key { path, takes, preset, acts: Acts::Yes, doc }
}

impl Key {
    /// The same key, acted on so.
    pub(crate) const fn acts(mut self, acts: Acts) -> Self {
        self.acts = acts;
        self
    }

    /// The default as TOML, if there is a fixed one.
    pub(crate) const fn default(&self) -> Option<&'static str> {
        match self.preset {
            Preset::Is(text) => Some(text),
            Preset::Example(..) => None,
        }
    }

    /// Whether its value must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.takes, Takes::Secret | Takes::Secrets)
    }
}
