//! Tokens as GitLab signs them, and as one who is not GitLab would: `tests/golden/jwt/make.sh` made
//! the keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// A key that is in [`JWKS`], the first there.
pub(crate) const FIRST: &str = include_str!("../golden/jwt/first.pem");
/// A key that is not.
pub(crate) const OTHER: &str = include_str!("../golden/jwt/other.pem");
/// What GitLab publishes.
pub(crate) const JWKS: &str = include_str!("../golden/jwt/jwks.json");

/// As GitLab signs, if this is its key.
pub(crate) fn sign(pem: &str, claims: &Value) -> String {
    let keys: Value = serde_json::from_str(JWKS).unwrap();
    sign_as(&keys["keys"][0]["kid"], pem, claims)
}

/// As one who says that the key is the one of this name.
pub(crate) fn sign_as(kid: &Value, pem: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": kid });
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let [header, claims] =
        [header, claims.clone()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &ring::rand::SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
