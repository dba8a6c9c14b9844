//! `[limits]`, as far as it is about one request and one caller.

use crate::auth::RateLimits;
use crate::config::toml::diagnostic::Reported;
use crate::config::toml::reader::Reader;
use crate::snapshot::Limits;
use crate::upstream::RedisUrl;

/// Reads the limits of one request and the rates of one caller.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Limits, Reported> {
    let max_body = reader.size(&["limits", "max_body"]);
    let body_timeout = reader.duration(&["limits", "body_timeout"]);
    let mut rate = |key| -> Result<_, Reported> {
        let rate = reader.optional_integer(&["limits", key])?;
        Ok(rate.and_then(|rate| rate.try_into().ok()))
    };
    let (requests, tokens) = (rate("requests_per_minute"), rate("tokens_per_minute"));
    let rates = RateLimits { requests: requests?, tokens: tokens? };
    Ok(Limits { max_body: max_body?, body_timeout: body_timeout?, rates })
}

/// Reads `limits.shared`, whose URL may contain a password.
pub(crate) fn shared(reader: &mut Reader<'_>) -> Result<Option<RedisUrl>, Reported> {
    const PATH: &[&str] = &["limits", "shared"];
    let Some(entry) = reader.doc.get(PATH) else { return Ok(None) };
    let before = reader.faults.len();
    let Some(url) = reader.optional_secret(PATH)? else { return Ok(None) };
    if !url.expose().contains('@') {
        // nothing in it is secret: no warning that it is in plain text
        reader.faults.truncate(before);
    }
    match RedisUrl::parse(url.expose()) {
        Ok(url) => Ok(Some(url)),
        Err(why) => Err(reader.report(reader.fault_at(PATH, &entry.span, why))),
    }
}
