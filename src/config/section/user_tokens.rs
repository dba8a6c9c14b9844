//! `[auth.user_tokens]`: the keys of the tokens that IDEs get for code completion. The official
//! gateway's variables serve where the file is silent (ai-gateway-server.md §6), the Agent
//! Platform's after them.

use std::sync::Arc;

use crate::auth::{KeyError, SigningKey, TokenSettings, VerifyingKey};
use crate::config::config::{Origin, Setting};
use crate::config::toml::diagnostic::{Fault, MASK, Place};
use crate::config::toml::reader::Reader;

const SIGNING: [&str; 2] =
    ["AIGW_SELF_SIGNED_JWT__SIGNING_KEY", "DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY"];
const VALIDATION: [&str; 2] =
    ["AIGW_SELF_SIGNED_JWT__VALIDATION_KEY", "DUO_WORKFLOW_SELF_SIGNED_JWT__VALIDATION_KEY"];

/// The keys; `None` when a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<TokenSettings> {
    let signing = key(reader, &["auth", "user_tokens", "signing_key"], &SIGNING, SigningKey::parse);
    let validation =
        key(reader, &["auth", "user_tokens", "validation_key"], &VALIDATION, VerifyingKey::parse);
    Some(TokenSettings { signing: signing?.map(Arc::new), validation: validation? })
}

/// What the file says at `path`, else the first of these variables that is set. `Some(None)` when
/// nothing is said.
fn key<K>(
    reader: &mut Reader<'_>,
    path: &[&str],
    variables: &[&str],
    parse: impl Fn(&str) -> Result<K, KeyError>,
) -> Option<Option<K>> {
    if reader.doc.get(path).is_some() {
        let (pem, span) = reader.pem(path)?;
        let parsed = parse(pem.expose());
        return parsed.map_err(|why| _ = reader.error(path, &span, why.to_string())).ok().map(Some);
    }
    let said = variables.iter().find_map(|name| Some((*name, reader.env.get(name)?)));
    let Some((name, pem)) = said else { return Some(None) };
    match parse(pem) {
        Ok(key) => {
            let origin = Origin::Variable(name.to_owned());
            reader.provenance.note(path.join("."), Setting { value: MASK.to_owned(), origin });
            Some(Some(key))
        }
        Err(why) => {
            reader.faults.push(Fault::error(Place::Environment, name, why.to_string()));
            None
        }
    }
}
