//! `[proxy]` and the variables that every other program takes a proxy from. The file wins over
//! them, the spelling in lower case over the one in upper case, as in curl.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::toml::diagnostic::{Fault, Location, Reported, Severity};
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::model::EndpointUrl;
use crate::secret::Secret;
use crate::upstream::{NoProxyRule, Proxies, Proxy};

const URL: &[&str] = &["proxy", "url"];
const CREDENTIALS: &[&str] = &["proxy", "credentials"];
const EXCEPT: &[&str] = &["proxy", "except"];
/// Value of `proxy.url` that switches proxies off, whatever the variables say.
const NONE: &str = "none";
const EXPECTED: &str = "expected a URL like \"http://proxy:3128\": the connection to a proxy is plain HTTP, not https or socks";

/// Reads the proxies of `https` and of `http` servers.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Proxies, Reported> {
    let before = reader.faults.len();
    let credentials = credentials(reader).unwrap_or_default();
    let except = exceptions(reader);
    let (https, http) = match reader.optional_string(URL) {
        Ok(Some(text)) if text == NONE => (None, None),
        Ok(Some(text)) => {
            let proxy = of_file(reader, &text, credentials);
            (proxy.clone(), proxy)
        }
        Ok(None) => of_environment(reader, credentials.as_ref()),
        Err(Reported) => (None, None),
    };
    if reader.faults[before..].iter().any(|fault| fault.severity == Severity::Error) {
        return Err(Reported);
    }
    Ok(Proxies { https, http, except })
}

/// Returns the proxy that the file names, or `None` after a fault.
fn of_file(
    reader: &mut Reader<'_>,
    text: &str,
    credentials: Option<Secret<String>>,
) -> Option<Arc<Proxy>> {
    let (message, hint) = match parse(text) {
        Some((url, None)) => {
            let named_by = URL.join(".").into();
            return Some(Arc::new(Proxy { url, authorization: credentials, source: named_by }));
        }
        Some((_, Some(_))) => {
            let hint = "set proxy.credentials = { env = \"NAME\" }, of the form user:password";
            ("no user and password here", Some(hint.to_owned()))
        }
        None => (EXPECTED, None),
    };
    reader.report(reader.fault_of(&URL.join("."), message).hint(hint));
    None
}

/// Returns the proxy of `https` servers and that of `http` ones that the variables name. A wrong
/// one is a fault and left out.
fn of_environment(
    reader: &mut Reader<'_>,
    credentials: Option<&Secret<String>>,
) -> (Option<Arc<Proxy>>, Option<Arc<Proxy>>) {
    let mut first = |names: [&'static str; 4]| {
        let (name, text) = reader.env.first(&names)?;
        let Some((url, own)) = parse(text) else {
            // its value may contain a password: not quoted
            let hint = "or set proxy.url = \"none\" to use no proxy";
            let fault = Fault::error(Location::Environment, name, EXPECTED);
            reader.report(fault.hint(Some(hint.to_owned())));
            return None;
        };
        let authorization = credentials.cloned().or(own);
        Some(Arc::new(Proxy { url, authorization, source: name.into() }))
    };
    let https = first(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]);
    let http = first(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]);
    let mut proxies: Vec<&Proxy> =
        [&https, &http].into_iter().flatten().map(|proxy| &**proxy).collect();
    proxies.dedup_by(|a, b| a.source == b.source);
    if !proxies.is_empty() {
        let values: Vec<String> =
            proxies.iter().map(|proxy| format!("\"{}\"", proxy.url)).collect();
        let variables: Vec<&str> = proxies.iter().map(|proxy| &*proxy.source).collect();
        let origin = Origin::Variable(variables.join(", "));
        reader.provenance.record(URL.join("."), Setting { value: values.join(", "), origin });
    }
    (https, http)
}

/// Parses `http://user:password@proxy:3128/`: the address, and the value of the
/// `proxy-authorization` header. The scheme is optional.
fn parse(text: &str) -> Option<(EndpointUrl, Option<Secret<String>>)> {
    let text = text.trim().trim_end_matches('/');
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return None,
        None => text,
    };
    let (user, address) = match rest.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, rest),
    };
    let url = EndpointUrl::parse(&format!("http://{address}")).ok()?;
    let authorization = match user {
        Some(user) => Some(basic(&decoded(user)?)),
        None => None,
    };
    url.base_path().is_empty().then_some((url, authorization))
}

/// Decodes percent-encoding. Returns `None` when it is malformed or not UTF-8.
fn decoded(text: &str) -> Option<Secret<String>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        rest = tail;
        let digit =
            |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push((digit(high)? << 4) | digit(low)?);
    }
    String::from_utf8(bytes).ok().map(Secret::new)
}

/// Returns the value of the header of Basic authentication (RFC 7617).
fn basic(user_and_password: &Secret<String>) -> Secret<String> {
    Secret::new(format!("Basic {}", STANDARD.encode(user_and_password.expose())))
}

/// Reads the credentials, as the value of a header.
fn credentials(reader: &mut Reader<'_>) -> Result<Option<Secret<String>>, Reported> {
    let Some(credentials) = reader.optional_secret(CREDENTIALS)? else { return Ok(None) };
    if !credentials.expose().contains(':') {
        let fault = reader.fault_of(&CREDENTIALS.join("."), "expected user:password");
        return Err(reader.report(fault));
    }
    Ok(Some(basic(&credentials)))
}

/// Reads the servers that are reached without a proxy. A wrong one of the file is a fault, one of a
/// variable a warning: images set it for every program in them.
fn exceptions(reader: &mut Reader<'_>) -> Vec<NoProxyRule> {
    let mut found = Vec::new();
    if reader.doc.get(EXCEPT).is_some() {
        for (text, span) in reader.strings(EXCEPT).unwrap_or_default() {
            match NoProxyRule::parse(&text) {
                Ok(except) => found.push(except),
                Err(expected) => _ = reader.error(EXCEPT, &span, format!("expected {expected}")),
            }
        }
        return found;
    }
    let Some((name, list)) = reader.env.first(&["no_proxy", "NO_PROXY"]) else { return found };
    for text in list.split([',', ' ']).filter(|text| !text.is_empty()) {
        match NoProxyRule::parse(text) {
            Ok(except) => found.push(except),
            Err(expected) => {
                let message = format!("{text:?} is left out: expected {expected}");
                reader.warn(Fault::warning(Location::Environment, name, message));
            }
        }
    }
    let setting = Setting { value: format!("{list:?}"), origin: Origin::Variable(name.to_owned()) };
    reader.provenance.record(EXCEPT.join("."), setting);
    found
}
