//! Where configuration comes from: the file, the environment, secret files. The one place that
//! reads any of them, so that what was read is remembered with its origin and a test can bring its
//! own.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Config;
use super::check;
use super::watch::Watched;
use crate::config::toml::diagnostic::{Fault, Faults, Place};
use crate::upstream::ClientTls;

/// The environment variables as they were at one moment.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process. Bytes that are not UTF-8 become replacement characters, and fail the
    /// checks of whatever reads them.
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// The value of a variable. One that is set to nothing counts as not set, as in the official
    /// container.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of those that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str())
    }

    pub(super) fn is_set_to_nothing(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(String::is_empty)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where the file is when the command line does not say: `$WEIR_CONFIG`, `./weir.toml`,
/// `/etc/weir/weir.toml`.
pub fn locate(explicit: Option<&Path>, env: &Environment) -> Result<PathBuf, Faults> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if let Some(path) = env.get("WEIR_CONFIG") {
        return Ok(path.into());
    }
    const PLACES: [&str; 2] = ["weir.toml", "/etc/weir/weir.toml"];
    let found = PLACES.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        let fault = Fault::error(Place::File("weir".into()), "", "no configuration file")
            .hint(Some(
            "looked for ./weir.toml and /etc/weir/weir.toml: say --config FILE or set WEIR_CONFIG"
                .into(),
        ));
        Faults::new(vec![fault])
    })
}

/// Reads and checks a file.
pub fn load(path: &Path, env: &Environment) -> Result<Config, Faults> {
    check::check(&read_text(path)?, path, env)
}

/// Checks a text that stands for a file of this name; paths in it are relative to that file.
pub fn from_str(text: &str, name: &str, env: &Environment) -> Result<Config, Faults> {
    check::check(text, Path::new(name), env)
}

/// The address of `/ready` that a file and the environment name, whatever else is wrong with them:
/// a container's health check must not fail because someone is halfway through editing the file.
pub fn admin_address(path: &Path, env: &Environment) -> Option<std::net::SocketAddr> {
    check::admin_address(&read_text(path).ok()?, path, env)
}

/// The file, and what it names that is read again when it changes; whatever else is wrong with it.
pub fn watched(path: &Path, env: &Environment) -> Watched {
    check::watched(&read_text(path).unwrap_or_default(), path, env)
}

/// The certificate authorities that a file and the environment name, as far as they can be read.
pub fn authorities(path: &Path, env: &Environment) -> ClientTls {
    check::authorities_of(&read_text(path).unwrap_or_default(), path, env)
}

fn read_text(path: &Path) -> Result<String, Faults> {
    let name: Arc<str> = path.to_string_lossy().into();
    let fault = |message: String| {
        Faults::new(vec![Fault::error(Place::File(Arc::clone(&name)), "", message)])
    };
    let bytes = read_limited(path).map_err(&fault)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let line =
            memchr::memchr_iter(b'\n', &error.as_bytes()[..error.utf8_error().valid_up_to()])
                .count()
                + 1;
        fault(format!("line {line} is not UTF-8: save the file as UTF-8"))
    })?;
    // Windows editors begin a file with a byte order mark
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Configuration, secrets, certificates: a few KiB. This stops a mistaken path.
const MAX_FILE: u64 = 4 << 20;

/// Reads a secret's file. One newline at its end is the editor's, not the secret's.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read_limited(path)?).map_err(|_| "it is not text".to_owned())?;
    let secret = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(secret.to_owned())
}

/// Reads a file whole, unless it is absurdly long.
pub(super) fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    read_at_most(path, MAX_FILE)
}

/// The same with another limit, in bytes.
pub(super) fn read_at_most(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(format!("it is longer than {} KiB", max >> 10));
    }
    Ok(bytes)
}
