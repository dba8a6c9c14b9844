//! The entry points: find the configuration file, read it and check it; and what can be read of a
//! file that has faults (the admin address, the files to watch).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::check;
use super::config::Config;
use super::watch::Watched;
use crate::config::toml::diagnostic::{Fault, Faults, Location};
use crate::config::toml::environment::{Environment, read_text};
use crate::upstream::ClientTls;

/// Returns the path of the configuration file: the explicit one, else `$WEIR_CONFIG`,
/// `./weir.toml`, `/etc/weir/weir.toml`. Fails when none of these exists.
pub fn locate(explicit: Option<&Path>, env: &Environment) -> Result<PathBuf, Faults> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if let Some(path) = env.get("WEIR_CONFIG") {
        return Ok(path.into());
    }
    const CANDIDATES: [&str; 2] = ["weir.toml", "/etc/weir/weir.toml"];
    let found = CANDIDATES.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        let hint =
            "looked for ./weir.toml and /etc/weir/weir.toml: pass --config FILE or set WEIR_CONFIG";
        let fault = Fault::error(Location::File("weir".into()), "", "no configuration file");
        Faults::new(vec![fault.hint(Some(hint.into()))])
    })
}

/// Reads and checks a file. Fails with all its faults.
pub fn load(path: &Path, env: &Environment) -> Result<Config, Faults> {
    check::check(&read_text(path)?, path, env)
}

/// Checks a text as if it were a file of this name; paths in it are relative to that file.
pub fn from_str(text: &str, name: &str, env: &Environment) -> Result<Config, Faults> {
    check::check(text, Path::new(name), env)
}

/// Returns the address of `/ready` that a file and the environment configure, even when the file
/// has faults: a container's health check must not fail because someone is halfway through editing
/// it.
pub fn admin_address(path: &Path, env: &Environment) -> Option<SocketAddr> {
    check::admin_address(&read_text(path).ok()?, path, env)
}

/// Returns the file, and the files named in it that are read again when they change, even when the
/// file has faults.
pub fn watched(path: &Path, env: &Environment) -> Watched {
    check::watched(&read_text(path).unwrap_or_default(), path, env)
}

/// Returns the certificate authorities that a file and the environment configure, as far as they
/// can be read.
pub fn authorities(path: &Path, env: &Environment) -> ClientTls {
    check::authorities_of(&read_text(path).unwrap_or_default(), path, env)
}
