//! What is read from outside the configuration file's text: the environment variables, and files
//! (the configuration itself, secrets, certificates). The one place that reads the environment, so
//! that every value is remembered with its origin and a test can bring its own variables.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::toml::diagnostic::{Fault, Faults, Location};

/// The environment variables as they were at one moment.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Captures the variables of this process. Bytes that are not UTF-8 become replacement
    /// characters, and fail the checks of the settings that use them.
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Returns the value of a variable, or `None` when it is not set. An empty value counts as not
    /// set, as in the official container.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the first of some variables that is set, as name and value.
    pub(crate) fn first<'e>(&'e self, names: &[&'static str]) -> Option<(&'static str, &'e str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Returns the names of the variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str())
    }

    /// Returns whether a variable is set to the empty string.
    pub(crate) fn is_set_but_empty(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(String::is_empty)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Prints names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Longest configuration, secret or certificate file, in bytes. They come to a few KiB: this stops
/// a mistaken path.
const MAX_FILE: u64 = 4 << 20;

/// Reads a configuration file. Fails with one fault when it cannot be read or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, Faults> {
    let name: Arc<str> = path.to_string_lossy().into();
    let fault = |message: String| {
        Faults::new(vec![Fault::error(Location::File(Arc::clone(&name)), "", message)])
    };
    let bytes = read_limited(path).map_err(&fault)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = memchr::memchr_iter(b'\n', valid).count() + 1;
        fault(format!("line {line} is not UTF-8: save the file as UTF-8"))
    })?;
    // Windows editors begin a file with a byte order mark
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Reads a secret's file, without one newline at its end: that is the editor's, not the secret's.
/// Fails with the reason, in words.
pub(crate) fn read_secret(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read_limited(path)?).map_err(|_| "it is not text".to_owned())?;
    let secret = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(secret.to_owned())
}

/// Reads a whole file of at most [`MAX_FILE`] bytes. Fails with the reason, in words.
pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    read_at_most(path, MAX_FILE)
}

/// Reads a whole file of at most `max` bytes. Fails with the reason, in words.
pub(crate) fn read_at_most(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let reason = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    };
    let file = std::fs::File::open(path).map_err(reason)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > max {
        return Err(format!("it is longer than {} KiB", max >> 10));
    }
    Ok(bytes)
}
