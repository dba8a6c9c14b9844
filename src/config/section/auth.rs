//! `[auth]` and `[gitlab]`: who may call, and that nobody opens the gateway to the world by
//! mistake.

use std::net::SocketAddr;

use crate::auth::{GitlabSettings, Settings};
use crate::config::config::{Origin, Setting};
use crate::config::section::static_keys;
use crate::config::toml::diagnostic::{Fault, Place, Severity, quoted};
use crate::config::toml::reader::Reader;
use crate::config::toml::variables;
use crate::model::{EndpointUrl, Scheme};

const MODE: &[&str] = &["auth", "mode"];
const URL: &[&str] = &["gitlab", "url"];

/// The settings; `None` when a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>, listen: Option<SocketAddr>) -> Option<Settings> {
    let said = reader.word(MODE);
    let keys = static_keys::read(reader, listen.is_some_and(|listen| !is_loopback(listen)));
    let gitlab = gitlab(reader);
    let allow_public = reader.boolean(&["auth", "allow_public"]);
    let [said_mode, said_keys, said_url] =
        [MODE, static_keys::PATH, URL].map(|path| reader.doc.get(path));
    let bypass = bypass(reader, said_mode.is_some() || said_keys.is_some() || said_url.is_some());
    let mode = match (said, &said_mode) {
        (Some(mode), _) => mode,
        // not one of the words, which was noted
        (None, Some(_)) => return None,
        (None, None) if bypass => "off",
        (None, None) => presumed(reader, said_keys.is_some()),
    };
    match (mode, said_mode) {
        ("off", Some(at)) if said_keys.is_some() => {
            reader
                .error(MODE, &at.span, "contradicts static_keys: \"off\" admits everybody")
                .hint = Some("remove one of the two lines".to_owned());
            None
        }
        ("off", _) => {
            if let Some(listen) = listen.filter(|listen| !is_loopback(*listen))
                && allow_public == Some(false)
                && !bypass
            {
                public_without_auth(reader, listen);
            }
            Some(Settings::Off)
        }
        ("keys", Some(at)) if said_keys.is_none() => {
            reader.error(MODE, &at.span, "expected auth.static_keys beside it");
            None
        }
        ("keys", _) => Some(Settings::Keys(keys?)),
        (_, Some(at)) if reader.provenance.origin("gitlab.url") == Origin::Default => {
            reader.error(MODE, &at.span, "expected gitlab.url beside it: whose tokens to accept");
            None
        }
        _ => Some(Settings::Gitlab { keys: keys?, gitlab: gitlab? }),
    }
}

/// What holds when no mode is said: the strictest that the rest of the file makes possible.
fn presumed(reader: &mut Reader<'_>, has_keys: bool) -> &'static str {
    let (mode, origin) = match (reader.provenance.origin("gitlab.url"), has_keys) {
        (Origin::Default, false) => ("off", Origin::Default),
        (Origin::Default, true) => ("keys", reader.provenance.origin("auth.static_keys")),
        (origin, _) => ("gitlab", origin),
    };
    reader
        .provenance
        .note("auth.mode".to_owned(), Setting { value: format!("\"{mode}\""), origin });
    mode
}

/// `[gitlab]`, if it names a GitLab and nothing in it is wrong.
fn gitlab(reader: &mut Reader<'_>) -> Option<GitlabSettings> {
    let url = url(reader, URL);
    let cloud_issuer = url_if_said(reader, &["gitlab", "cloud_issuer"]);
    let audience = reader.text(&["gitlab", "audience"]);
    if audience.as_ref().is_some_and(String::is_empty) {
        let fault = reader
            .fault_of("gitlab.audience", "expected a name like \"gitlab-ai-gateway\"")
            .said("\"\"");
        reader.faults.push(fault);
        return None;
    }
    Some(GitlabSettings { url: url?, cloud_issuer: cloud_issuer?, audience: audience?.into() })
}

/// `Some(None)` when nothing is said.
fn url_if_said(reader: &mut Reader<'_>, path: &[&str]) -> Option<Option<EndpointUrl>> {
    let url = url(reader, path);
    match reader.provenance.origin(&path.join(".")) {
        Origin::Default => Some(None),
        Origin::Line(_) | Origin::Variable(_) => Some(Some(url?)),
    }
}

/// An issuer's address. Whoever answers for a plain-HTTP one decides who may call.
fn url(reader: &mut Reader<'_>, path: &[&str]) -> Option<EndpointUrl> {
    let url = reader.url(path)?;
    if is_open(&url) {
        let message = "plain HTTP: whoever stands in between can say which tokens are good";
        let fault =
            Fault { severity: Severity::Warning, ..reader.fault_of(&path.join("."), message) };
        reader
            .faults
            .push(fault.said(quoted(&url.to_string())).hint(Some("use https://".to_owned())));
    }
    Some(url)
}

/// Whether what goes there can be read and changed on its way: plain HTTP that leaves this machine.
pub(crate) fn is_open(url: &EndpointUrl) -> bool {
    let host = url.host();
    let local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    url.scheme() == Scheme::Http && !local
}

/// `AIGW_AUTH__BYPASS_EXTERNAL`: off, on any address, and told so every time. The file wins.
fn bypass(reader: &mut Reader<'_>, file_says: bool) -> bool {
    let Some(said) = reader.env.get(variables::BYPASS) else { return false };
    let fault = match variables::truth(said) {
        Some(false) => return false,
        Some(true) if file_says => Fault::warning(
            Place::Environment,
            variables::BYPASS,
            "has no effect: the file decides who may call",
        ),
        Some(true) => {
            let origin = Origin::Variable(variables::BYPASS.to_owned());
            reader
                .provenance
                .note("auth.mode".to_owned(), Setting { value: "\"off\"".to_owned(), origin });
            let message =
                "authentication is off: everybody who reaches the listener may use the models";
            Fault::warning(Place::Environment, variables::BYPASS, message)
        }
        None => {
            let message = "expected true or false";
            Fault::error(Place::Environment, variables::BYPASS, message).said(quoted(said))
        }
    };
    reader.faults.push(fault);
    !file_says
}

fn public_without_auth(reader: &mut Reader<'_>, listen: SocketAddr) {
    let message = "but nobody is asked for a key there (auth.mode is \"off\"): everybody who reaches it may use the models";
    let hint = "set gitlab.url, or auth.static_keys = [{ env = \"…\" }], or listen on 127.0.0.1, or accept it with \
                auth.allow_public = true";
    let fault = reader
        .fault_of("server.listen", message)
        .said(format!("\"{listen}\""))
        .hint(Some(hint.to_owned()));
    reader.faults.push(fault);
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
