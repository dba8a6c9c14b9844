//! `[auth.user_tokens]`: the keys of the tokens that IDEs get for code completion. The official
//! gateway's variables apply where the file sets nothing (contract::ai_gateway_server §6), the
//! Agent Platform's after them.

use std::sync::Arc;

use crate::auth::{KeyError, SigningKey, UserTokenSettings, VerifyingKey};
use crate::config::toml::diagnostic::{Fault, Location, MASK, Reported};
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;

const SIGNING: [&str; 2] =
    ["AIGW_SELF_SIGNED_JWT__SIGNING_KEY", "DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY"];
const VALIDATION: [&str; 2] =
    ["AIGW_SELF_SIGNED_JWT__VALIDATION_KEY", "DUO_WORKFLOW_SELF_SIGNED_JWT__VALIDATION_KEY"];

/// Reads the keys.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<UserTokenSettings, Reported> {
    let signing = key(reader, &["auth", "user_tokens", "signing_key"], &SIGNING, SigningKey::parse);
    let validation =
        key(reader, &["auth", "user_tokens", "validation_key"], &VALIDATION, VerifyingKey::parse);
    Ok(UserTokenSettings { signing: signing?.map(Arc::new), validation: validation? })
}

/// Reads the key at `path`, else that of the first of these variables that is set. Returns `None`
/// when there is neither.
fn key<K>(
    reader: &mut Reader<'_>,
    path: &[&str],
    variables: &[&'static str],
    parse: impl Fn(&str) -> Result<K, KeyError>,
) -> Result<Option<K>, Reported> {
    if let Some((pem, span)) = reader.optional_pem(path)? {
        return match parse(pem.expose()) {
            Ok(key) => Ok(Some(key)),
            Err(why) => Err(reader.report(reader.fault_at(path, &span, why.to_string()))),
        };
    }
    let Some((name, pem)) = reader.env.first(variables) else { return Ok(None) };
    match parse(pem) {
        Ok(key) => {
            let origin = Origin::Variable(name.to_owned());
            reader.provenance.record(path.join("."), Setting { value: MASK.to_owned(), origin });
            Ok(Some(key))
        }
        Err(why) => Err(reader.report(Fault::error(Location::Environment, name, why.to_string()))),
    }
}
