//! `[auth]` and `[gitlab]`: how clients are authenticated, and a check that the gateway is not open
//! to the world by mistake.

use std::net::SocketAddr;

use crate::auth::{GitlabSettings, Settings};
use crate::config::section::static_keys;
use crate::config::toml::diagnostic::{Fault, Location, Reported, quoted};
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::config::toml::variables;
use crate::model::{EndpointUrl, Scheme};

const MODE: &[&str] = &["auth", "mode"];
const URL: &[&str] = &["gitlab", "url"];
const AUDIENCE: &[&str] = &["gitlab", "audience"];

/// Reads the settings. `listen` is the public listener's address, if it could be read.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    listen: Option<SocketAddr>,
) -> Result<Settings, Reported> {
    let public = listen.filter(|listen| !is_loopback(*listen));
    let mode = reader.optional_keyword(MODE);
    let keys = static_keys::read(reader, public.is_some());
    let gitlab = gitlab(reader);
    let allow_public = reader.boolean(&["auth", "allow_public"]);
    let [mode_entry, keys_entry, url_entry] =
        [MODE, static_keys::PATH, URL].map(|path| reader.doc.get(path));
    let has_keys = keys_entry.is_some();
    let bypass = bypass(reader, mode_entry.is_some() || has_keys || url_entry.is_some());
    let mode = match mode? {
        Some(mode) => mode,
        None if bypass => "off",
        None => presumed(reader, has_keys),
    };
    match (mode, mode_entry) {
        ("off", Some(entry)) if has_keys => {
            let message = "contradicts static_keys: \"off\" admits everybody";
            let fault = reader.fault_at(MODE, &entry.span, message);
            Err(reader.report(fault.hint(Some("remove one of the two lines".to_owned()))))
        }
        ("off", _) => {
            if let (Some(listen), Ok(false), false) = (public, allow_public, bypass) {
                public_without_auth(reader, listen);
            }
            Ok(Settings::Off)
        }
        ("keys", Some(entry)) if !has_keys => {
            let message = "expected auth.static_keys as well";
            Err(reader.report(reader.fault_at(MODE, &entry.span, message)))
        }
        ("keys", _) => Ok(Settings::Keys(keys?)),
        (_, Some(entry)) if reader.provenance.origin("gitlab.url") == Origin::Default => {
            let message = "expected gitlab.url as well: the GitLab whose tokens are accepted";
            Err(reader.report(reader.fault_at(MODE, &entry.span, message)))
        }
        _ => Ok(Settings::Gitlab { keys: keys?, gitlab: gitlab?.ok_or(Reported)? }),
    }
}

/// Returns the mode that applies when none is set: the strictest that the rest of the file allows.
fn presumed(reader: &mut Reader<'_>, has_keys: bool) -> &'static str {
    let (mode, origin) = match (reader.provenance.origin("gitlab.url"), has_keys) {
        (Origin::Default, false) => ("off", Origin::Default),
        (Origin::Default, true) => ("keys", reader.provenance.origin("auth.static_keys")),
        (origin, _) => ("gitlab", origin),
    };
    let setting = Setting { value: format!("\"{mode}\""), origin };
    reader.provenance.record("auth.mode".to_owned(), setting);
    mode
}

/// Reads `[gitlab]`, or returns `None` when no GitLab is configured.
fn gitlab(reader: &mut Reader<'_>) -> Result<Option<GitlabSettings>, Reported> {
    let url = issuer(reader, URL);
    let cloud_issuer = issuer(reader, &["gitlab", "cloud_issuer"]);
    let audience = reader.string(AUDIENCE);
    if audience.as_ref().is_ok_and(String::is_empty) {
        let message = "expected a name like \"gitlab-ai-gateway\"";
        let fault = reader.fault_of(&AUDIENCE.join("."), message).found("\"\"");
        return Err(reader.report(fault));
    }
    let Some(url) = url? else { return Ok(None) };
    Ok(Some(GitlabSettings { url, cloud_issuer: cloud_issuer?, audience: audience?.into() }))
}

/// Reads an issuer's address. Plain HTTP is a warning: a machine on the network path could answer
/// in its place and decide which tokens are good.
fn issuer(reader: &mut Reader<'_>, path: &[&str]) -> Result<Option<EndpointUrl>, Reported> {
    let Some(url) = reader.optional_url(path)? else { return Ok(None) };
    if is_plain_http(&url) {
        let message =
            "plain HTTP: any machine on the network path can decide which tokens are good";
        let fault = reader.fault_of(&path.join("."), message).found(quoted(&url.to_string()));
        reader.warn(fault.hint(Some("use https://".to_owned())));
    }
    Ok(Some(url))
}

/// Returns whether requests to an address can be read and changed on the network: plain HTTP that
/// leaves this machine.
pub(crate) fn is_plain_http(url: &EndpointUrl) -> bool {
    let host = url.host();
    let is_local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    url.scheme() == Scheme::Http && !is_local
}

/// Returns whether `AIGW_AUTH__BYPASS_EXTERNAL` switches authentication off, on any address; each
/// time with a warning. The file wins over it.
fn bypass(reader: &mut Reader<'_>, file_decides: bool) -> bool {
    const VARIABLE: &str = variables::BYPASS;
    let Some(text) = reader.env.get(VARIABLE) else { return false };
    match variables::parse_bool(text) {
        Some(false) => return false,
        Some(true) if file_decides => {
            let message = "has no effect: the file decides who may call";
            reader.warn(Fault::warning(Location::Environment, VARIABLE, message));
        }
        Some(true) => {
            let origin = Origin::Variable(VARIABLE.to_owned());
            let setting = Setting { value: "\"off\"".to_owned(), origin };
            reader.provenance.record("auth.mode".to_owned(), setting);
            let message =
                "authentication is off: everybody who reaches the listener may use the models";
            reader.warn(Fault::warning(Location::Environment, VARIABLE, message));
        }
        None => {
            let fault = Fault::error(Location::Environment, VARIABLE, "expected true or false");
            reader.report(fault.found(quoted(text)));
        }
    }
    !file_decides
}

fn public_without_auth(reader: &mut Reader<'_>, listen: SocketAddr) {
    let message = "but no authentication is configured (auth.mode is \"off\"): everybody who reaches it may use the models";
    let hint = "set gitlab.url, or auth.static_keys = [{ env = \"…\" }], or listen on 127.0.0.1, or accept it with \
                auth.allow_public = true";
    let fault = reader.fault_of("server.listen", message).found(format!("\"{listen}\""));
    reader.report(fault.hint(Some(hint.to_owned())));
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
