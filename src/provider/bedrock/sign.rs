//! SigV4: the signature that authenticates an attempt. Time and credentials are arguments.
//!
//! `aws-sigv4` gets the path encoded once, as it is sent, and encodes it again for the canonical
//! request (contract::providers §d1.3); only headers that no proxy on the path changes are signed
//! (contract::providers §d1.4).

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sigv4};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::error::{GatewayError, Kind};
use crate::model::{AwsKeys, Region};
use crate::provider::{Outbound, SigningContext};
use crate::secret::Secret;
use crate::wire::Payload;

/// Name of Bedrock and its runtime in a credential scope.
const SERVICE: &str = "bedrock";
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Removes the headers that an earlier attempt added: its date is old by now, its token may have
/// expired.
pub(super) fn remove_credentials(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, AMZ_DATE, AMZ_TOKEN] {
        headers.remove(name);
    }
}

/// Inserts a Bedrock API key. Fails when it contains characters that no header may.
pub(super) fn insert_api_key(
    headers: &mut HeaderMap,
    key: &Secret<String>,
) -> Result<(), GatewayError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
        .map_err(|_| signing_error("the Bedrock API key holds characters that no header may"))?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(())
}

/// Signs the request for one attempt. Fails when a header cannot be signed.
pub(super) fn sign(
    outbound: &mut Outbound,
    keys: &AwsKeys,
    region: &Region,
    attempt: &SigningContext<'_>,
) -> Result<(), GatewayError> {
    let host = match outbound.headers.get(header::HOST) {
        Some(host) => host.to_str().map_err(|_| signing_error("the signing host is not ASCII"))?,
        None => attempt.endpoint.authority().as_str(),
    };
    let mut headers = vec![(header::HOST.as_str(), host)];
    for (name, value) in outbound.headers.iter().filter(|(name, _)| is_signed(name)) {
        headers.push((
            name.as_str(),
            value.to_str().map_err(|_| signing_error("a header to sign is not ASCII"))?,
        ));
    }
    // The scheme is not part of a signature; with `https` the signer leaves the host unchanged.
    let url = format!("https://{host}{}{}", attempt.endpoint.base_path(), outbound.path);
    let body = SignableBody::Precomputed(sha256_hex(&outbound.body));
    let request = SignableRequest::new("POST", url, headers.into_iter(), body)
        .map_err(|error| signing_error(&error))?;
    let token = keys.session_token.as_ref().map(|token| token.expose().clone());
    let secret = keys.secret_access_key.expose().clone();
    let identity = Credentials::new(&*keys.access_key_id, secret, token, None, "weir").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_str())
        .name(SERVICE)
        .time(attempt.now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| signing_error(&error))?
        .into();
    let (instructions, _) =
        sigv4(request, &params).map_err(|error| signing_error(&error))?.into_parts();
    for added in instructions.into_parts().0 {
        let mut value =
            HeaderValue::try_from(added.value()).map_err(|error| signing_error(&error))?;
        // also `authorization`, which the signer does not mark as sensitive: it has the key's id
        value.set_sensitive(true);
        outbound.headers.insert(HeaderName::from_static(added.name()), value);
    }
    Ok(())
}

fn is_signed(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "content-type" || name.starts_with("x-amz-") || name.starts_with("x-amzn-")
}

fn sha256_hex(body: &Payload) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    body.pieces().iter().for_each(|piece| context.update(piece));
    context.finish().as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        hex
    })
}

/// Builds the error of a failed signature. The signer's errors contain header names and URLs, never
/// keys.
fn signing_error(why: &(impl std::fmt::Display + ?Sized)) -> GatewayError {
    GatewayError::new(Kind::Internal, "The gateway could not sign its request to the model server")
        .internal(why.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, header};
    use serde::Deserialize;

    use super::{insert_api_key, remove_credentials, sign};
    use crate::model::{AwsKeys, EndpointUrl, Region};
    use crate::provider::{Outbound, SigningContext, percent_encode};
    use crate::secret::Secret;

    /// Requests signed by botocore; `make.py` next to the file generated them.
    #[derive(Deserialize)]
    struct Goldens {
        unix: u64,
        body: String,
        access_key_id: String,
        secret: String,
        goldens: Vec<Golden>,
    }

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        model: String,
        operation: String,
        region: String,
        token: Option<String>,
        host: String,
        base: String,
        path: String,
        authorization: String,
    }

    fn goldens() -> Goldens {
        serde_json::from_str(include_str!("../../../tests/golden/bedrock/sigv4.json")).unwrap()
    }

    fn keys(all: &Goldens, token: Option<&String>) -> AwsKeys {
        AwsKeys {
            access_key_id: all.access_key_id.as_str().into(),
            secret_access_key: Secret::new(all.secret.clone()),
            session_token: token.map(|token| Secret::new(token.clone())),
        }
    }

    fn outbound(all: &Goldens, golden: &Golden) -> Outbound {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let path = format!("/model/{}/{}", percent_encode(&golden.model), golden.operation);
        Outbound {
            method: http::Method::POST,
            path: path.into(),
            headers,
            body: Bytes::from(all.body.clone()).into(),
        }
    }

    #[test]
    fn signs_as_botocore_does() {
        let all = goldens();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(all.unix);
        assert!(all.goldens.len() >= 4);
        for golden in &all.goldens {
            let endpoint =
                EndpointUrl::parse(&format!("https://{}{}", golden.host, golden.base)).unwrap();
            let mut outbound = outbound(&all, golden);
            assert_eq!(format!("{}{}", golden.base, outbound.path), golden.path, "{}", golden.name);
            let region = Region::parse(&golden.region).unwrap();
            let attempt = SigningContext { endpoint: &endpoint, now };
            sign(&mut outbound, &keys(&all, golden.token.as_ref()), &region, &attempt).unwrap();
            // botocore's canonical request is hashed into the signature: equal signatures, equal
            // requests
            assert_eq!(
                outbound.headers[header::AUTHORIZATION],
                golden.authorization.as_str(),
                "{}",
                golden.name
            );
            assert_eq!(outbound.headers["x-amz-date"], "20150830T123600Z");
            let token = outbound
                .headers
                .get("x-amz-security-token")
                .map(|token| token.to_str().unwrap().to_owned());
            assert_eq!(token, golden.token);
            assert!(!format!("{outbound:?}").contains("Signature="), "{outbound:?}");
        }
    }

    #[test]
    fn a_later_attempt_signs_again() {
        let all = goldens();
        let (golden, token) = (&all.goldens[0], "old".to_owned());
        let endpoint = EndpointUrl::parse(&format!("https://{}", golden.host)).unwrap();
        let region = Region::parse(&golden.region).unwrap();
        let at = |now| SigningContext { endpoint: &endpoint, now };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(all.unix);
        let mut outbound = outbound(&all, golden);
        sign(&mut outbound, &keys(&all, Some(&token)), &region, &at(now - Duration::from_hours(1)))
            .unwrap();
        remove_credentials(&mut outbound.headers);
        sign(&mut outbound, &keys(&all, None), &region, &at(now)).unwrap();
        assert_eq!(outbound.headers[header::AUTHORIZATION], golden.authorization.as_str());
        assert!(!outbound.headers.contains_key("x-amz-security-token"));
    }

    #[test]
    fn keys_that_no_header_may_hold_are_an_error_that_does_not_repeat_them() {
        let error =
            insert_api_key(&mut HeaderMap::new(), &Secret::new("canary\n".into())).unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        let all = goldens();
        let endpoint = EndpointUrl::parse("https://h").unwrap();
        let attempt = SigningContext { endpoint: &endpoint, now: SystemTime::UNIX_EPOCH };
        let token = "canary\n".to_owned();
        let region = Region::parse("us-east-1").unwrap();
        let error = sign(
            &mut outbound(&all, &all.goldens[0]),
            &keys(&all, Some(&token)),
            &region,
            &attempt,
        )
        .unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
