//! `[proxy]` and the variables that every other program takes a proxy from. The file wins over
//! them, the spelling in lower case over the one in upper case, as curl has it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::config::{Origin, Setting};
use crate::config::toml::diagnostic::{Fault, Place};
use crate::config::toml::reader::Reader;
use crate::model::EndpointUrl;
use crate::secret::Secret;
use crate::upstream::{Except, Proxies, Proxy};

const URL: &[&str] = &["proxy", "url"];
const CREDENTIALS: &[&str] = &["proxy", "credentials"];
const EXCEPT: &[&str] = &["proxy", "except"];
/// Says that there is none, whatever the variables say.
const NONE: &str = "none";
const EXPECTED: &str = "expected a URL like \"http://proxy:3128\": the way to a proxy is plain HTTP, not https or socks";

/// The proxies. `None` when a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Proxies> {
    let before = reader.faults.len();
    let credentials = credentials(reader);
    let except = exceptions(reader);
    let (https, http) = match reader.text(URL) {
        Some(text) if text == NONE => (None, None),
        Some(text) => {
            let proxy = of_file(reader, &text, credentials);
            (proxy.clone(), proxy)
        }
        None if reader.doc.get(URL).is_some() => (None, None),
        None => of_environment(reader, credentials.as_ref()),
    };
    (reader.faults[before..].iter().all(|fault| fault.severity == crate::config::Severity::Warning))
        .then_some(Proxies { https, http, except })
}

fn of_file(
    reader: &mut Reader<'_>,
    text: &str,
    credentials: Option<Secret<String>>,
) -> Option<Arc<Proxy>> {
    match parse(text) {
        Some((url, None)) => Some(Arc::new(Proxy {
            url,
            authorization: credentials,
            named_by: URL.join(".").into(),
        })),
        said => {
            let message = if said.is_some() { "no user and password here" } else { EXPECTED };
            let hint = said.map(|_| {
                "say proxy.credentials = { env = \"NAME\" }, of the form user:password".to_owned()
            });
            let fault = reader.fault_of(&URL.join("."), message).hint(hint);
            reader.faults.push(fault);
            None
        }
    }
}

/// Of `https` servers, then of `http` ones.
fn of_environment(
    reader: &mut Reader<'_>,
    credentials: Option<&Secret<String>>,
) -> (Option<Arc<Proxy>>, Option<Arc<Proxy>>) {
    let mut named = |own: [&'static str; 2]| {
        let names = own.into_iter().chain(["all_proxy", "ALL_PROXY"]);
        let (name, text) = names.filter_map(|name| Some((name, reader.env.get(name)?))).next()?;
        let Some((url, own)) = parse(text) else {
            // its value may hold a password
            let fault = Fault::error(Place::Environment, name, EXPECTED);
            reader
                .faults
                .push(fault.hint(Some("or set proxy.url = \"none\" to do without".to_owned())));
            return None;
        };
        Some(Arc::new(Proxy {
            url,
            authorization: credentials.cloned().or(own),
            named_by: name.into(),
        }))
    };
    let (https, http) =
        (named(["https_proxy", "HTTPS_PROXY"]), named(["http_proxy", "HTTP_PROXY"]));
    let mut said: Vec<&Proxy> =
        [&https, &http].into_iter().flatten().map(|proxy| &**proxy).collect();
    said.dedup_by(|a, b| a.named_by == b.named_by);
    if !said.is_empty() {
        let value =
            said.iter().map(|proxy| format!("\"{}\"", proxy.url)).collect::<Vec<_>>().join(", ");
        let origin = Origin::Variable(
            said.iter().map(|proxy| &*proxy.named_by).collect::<Vec<_>>().join(", "),
        );
        reader.provenance.note(URL.join("."), Setting { value, origin });
    }
    (https, http)
}

/// `http://user:password@proxy:3128/`: the address, and the value of the header. The scheme may be
/// left out.
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
    url.base().is_empty().then_some((url, authorization))
}

/// Percent-encoding undone.
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

/// RFC 7617.
fn basic(user_and_password: &Secret<String>) -> Secret<String> {
    Secret::new(format!("Basic {}", STANDARD.encode(user_and_password.expose())))
}

fn credentials(reader: &mut Reader<'_>) -> Option<Secret<String>> {
    let said = reader.secret(CREDENTIALS)?;
    if !said.expose().contains(':') {
        let fault = reader.fault_of(&CREDENTIALS.join("."), "expected user:password");
        reader.faults.push(fault);
        return None;
    }
    Some(basic(&said))
}

fn exceptions(reader: &mut Reader<'_>) -> Vec<Except> {
    let mut found = Vec::new();
    if reader.doc.get(EXCEPT).is_some() {
        for (text, span) in reader.texts(EXCEPT).unwrap_or_default() {
            match Except::parse(&text) {
                Ok(except) => found.push(except),
                Err(expected) => _ = reader.error(EXCEPT, &span, format!("expected {expected}")),
            }
        }
        return found;
    }
    let Some((name, list)) =
        ["no_proxy", "NO_PROXY"].iter().find_map(|name| Some((*name, reader.env.get(name)?)))
    else {
        return found;
    };
    for text in list.split([',', ' ']).filter(|text| !text.is_empty()) {
        match Except::parse(text) {
            Ok(except) => found.push(except),
            // images set it for every program in them
            Err(expected) => {
                let message = format!("{text:?} is left out: expected {expected}");
                reader.faults.push(Fault::warning(Place::Environment, name, message));
            }
        }
    }
    let setting = Setting { value: format!("{list:?}"), origin: Origin::Variable(name.to_owned()) };
    reader.provenance.note(EXCEPT.join("."), setting);
    found
}
