//! Entra ID's token requests: with an application's secret, with a cluster's token, or with the
//! machine's own identity.
//!
//! Source: contract::providers §d2.3; Microsoft's pages on the client credentials flow, on managed
//! identities of virtual machines and on those of App Service.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;

use super::FETCH_TIMEOUT;
use crate::model::{EndpointUrl, EntraIdentity, EntraToken, Expiring, ManagedIdentitySource};
use crate::secret::Secret;
use crate::upstream::{FetchRequest, FetchResponse, Fetcher};

/// The longest token file; a cluster's token is a few KiB.
const MAX_TOKEN_FILE: u64 = 64 << 10;

/// Requests a token once. Fails with the address and the reason.
pub(super) async fn fetch(
    entra: &EntraToken,
    fetcher: &Fetcher,
) -> Result<Expiring<Secret<String>>, String> {
    let request = Request::new(&entra.identity, &entra.scope)?;
    let address = format!("{}{}", request.url, request.path.split('?').next().unwrap_or_default());
    let Request { method, url, path, headers, body } = request;
    let request = FetchRequest { method, url: &url, path: &path, headers, body };
    let response =
        fetcher.send(request, FETCH_TIMEOUT).await.map_err(|why| format!("{address}: {why}"))?;
    parse_token(&response, SystemTime::now()).map_err(|why| format!("{address}: {why}"))
}

/// The token request of one identity.
struct Request {
    method: &'static str,
    url: EndpointUrl,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn new(identity: &EntraIdentity, scope: &str) -> Result<Self, String> {
        const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        match identity {
            EntraIdentity::Application { tenant, client_id, client_secret } => {
                Ok(Self::client_credentials(
                    tenant,
                    scope,
                    client_id,
                    &[("client_secret", client_secret.expose())],
                ))
            }
            EntraIdentity::Workload { tenant, client_id, token_file } => {
                let assertion =
                    read(token_file).map_err(|why| format!("{}: {why}", token_file.display()))?;
                let proof = [
                    ("client_assertion_type", ASSERTION),
                    ("client_assertion", assertion.expose()),
                ];
                Ok(Self::client_credentials(tenant, scope, client_id, &proof))
            }
            EntraIdentity::Managed { by, client_id } => {
                Ok(Self::managed_identity(by, scope, client_id.as_deref()))
            }
        }
    }

    fn client_credentials(
        tenant: &EndpointUrl,
        scope: &str,
        client_id: &str,
        proof: &[(&str, &str)],
    ) -> Self {
        let fixed =
            [("grant_type", "client_credentials"), ("client_id", client_id), ("scope", scope)];
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let body = form(fixed.iter().chain(proof)).into();
        Self {
            method: "POST",
            url: tenant.clone(),
            path: "/oauth2/v2.0/token".to_owned(),
            headers,
            body,
        }
    }

    fn managed_identity(by: &ManagedIdentitySource, scope: &str, client_id: Option<&str>) -> Self {
        const METADATA: HeaderName = HeaderName::from_static("metadata");
        const IDENTITY: HeaderName = HeaderName::from_static("x-identity-header");
        // both take a resource, not a scope
        let resource = scope.strip_suffix("/.default").unwrap_or(scope);
        let mut headers = HeaderMap::new();
        let (url, path, version) = match by {
            ManagedIdentitySource::Instance(url) => {
                headers.insert(METADATA, HeaderValue::from_static("true"));
                (url, "/metadata/identity/oauth2/token", "2018-02-01")
            }
            ManagedIdentitySource::AppService(url, secret) => {
                // the configuration accepts visible ASCII only
                if let Ok(mut value) = HeaderValue::from_str(secret.expose()) {
                    value.set_sensitive(true);
                    headers.insert(IDENTITY, value);
                }
                (url, "", "2019-08-01")
            }
        };
        let fixed = [("api-version", version), ("resource", resource)];
        let selected = client_id.map(|id| ("client_id", id));
        let path = format!("{path}?{}", form(fixed.iter().chain(&selected)));
        Self { method: "GET", url: url.clone(), path, headers, body: Bytes::new() }
    }
}

/// Encodes pairs as a form or a query.
fn form<'a>(pairs: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    let encode = |text: &str| text.bytes().map(percent_encode).collect::<String>();
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

fn percent_encode(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// Reads the cluster's token, as it is now. Fails when the file is empty.
fn read(file: &Path) -> Result<Secret<String>, String> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|why| why.to_string())?;
    opened.take(MAX_TOKEN_FILE).read_to_string(&mut text).map_err(|why| why.to_string())?;
    let text = Secret::new(text);
    let token = text.expose().trim();
    if token.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(token.to_owned())) }
}

/// A token response. `expires_in` is a number from Entra ID and a string from the metadata service;
/// App Service sends only `expires_on`.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    expires_on: Value,
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: Option<Value>,
    error_description: Option<String>,
    message: Option<String>,
}

fn parse_token(
    response: &FetchResponse,
    now: SystemTime,
) -> Result<Expiring<Secret<String>>, String> {
    let FetchResponse { status, body, .. } = response;
    if !status.is_success() {
        return Err(format!("HTTP {status}{}", refusal_text(body)));
    }
    let response: TokenResponse =
        serde_json::from_slice(body).map_err(|_| "the response is not a token".to_owned())?;
    let value = Secret::new(response.access_token);
    if value.expose().is_empty() || !value.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the token contains characters that are not allowed in a header".to_owned());
    }
    let seconds = |value: &Value| {
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(Duration::from_secs)
    };
    let expires = seconds(&response.expires_in)
        .and_then(|left| now.checked_add(left))
        .or_else(|| SystemTime::UNIX_EPOCH.checked_add(seconds(&response.expires_on)?));
    match expires {
        Some(_) => Ok(Expiring { value, expires }),
        None => Err("the response does not contain an expiry".to_owned()),
    }
}

/// Returns the reason of a refusal, with a colon before each part: the code, and the first line of
/// the description, which names the cause (`AADSTS7000215: …`). Empty when the body is not Entra
/// ID's.
fn refusal_text(body: &[u8]) -> String {
    let Ok(error) = serde_json::from_slice::<ErrorResponse>(body) else { return String::new() };
    let code = error.error.as_ref().and_then(Value::as_str).map(str::to_owned);
    let text = error.error_description.or(error.message);
    let line = text.and_then(|text| {
        text.lines().next().map(|line| line.chars().take(300).collect::<String>())
    });
    [code, line].into_iter().flatten().map(|part| format!(": {part}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, StatusCode};

    use super::{Request, parse_token};
    use crate::model::{EndpointUrl, EntraIdentity, ManagedIdentitySource};
    use crate::secret::Secret;
    use crate::upstream::FetchResponse;

    fn managed_identity(by: ManagedIdentitySource) -> Request {
        let identity = EntraIdentity::Managed { by, client_id: Some("c 1".into()) };
        Request::new(&identity, "https://ai.azure.com/.default").unwrap()
    }

    #[test]
    fn managed_identities_name_the_resource() {
        let url = |text| EndpointUrl::parse(text).unwrap();
        let instance =
            managed_identity(ManagedIdentitySource::Instance(url("http://169.254.169.254")));
        let query = "resource=https%3A%2F%2Fai.azure.com&client_id=c%201";
        assert_eq!(
            instance.path,
            format!("/metadata/identity/oauth2/token?api-version=2018-02-01&{query}")
        );
        assert_eq!(instance.headers["metadata"], "true");
        let by = ManagedIdentitySource::AppService(
            url("http://localhost:1/msi/token"),
            Secret::new("canary".into()),
        );
        let service = managed_identity(by);
        assert_eq!(service.path, format!("?api-version=2019-08-01&{query}"));
        assert_eq!(service.headers["x-identity-header"], "canary");
        assert!(!format!("{:?}", service.headers).contains("canary"));
    }

    #[test]
    fn a_tokens_expiry_is_relative_or_absolute() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let read = |status: u16, body: &'static str| {
            let status = StatusCode::from_u16(status).unwrap();
            let response = FetchResponse { status, headers: HeaderMap::new(), body: body.into() };
            parse_token(&response, now)
                .map(|token| token.expires.unwrap().duration_since(now).unwrap().as_secs())
        };
        assert_eq!(read(200, r#"{"access_token":"t","expires_in":3599}"#), Ok(3599));
        assert_eq!(read(200, r#"{"access_token":"t","expires_in":"60","expires_on":"9"}"#), Ok(60));
        assert_eq!(read(200, r#"{"access_token":"t","expires_on":"1090"}"#), Ok(90));
        let error = |status, body| read(status, body).unwrap_err();
        assert_eq!(
            error(200, r#"{"access_token":"t"}"#),
            "the response does not contain an expiry"
        );
        assert_eq!(error(200, "<html>canary"), "the response is not a token");
        assert!(!error(200, r#"{"access_token":"canary\n","expires_in":1}"#).contains("canary"));
        let refused = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid.\r\nTrace ID: 1"}"#;
        assert_eq!(
            error(401, refused),
            "HTTP 401 Unauthorized: invalid_client: AADSTS7000215: Invalid."
        );
        assert_eq!(error(500, "<html>"), "HTTP 500 Internal Server Error");
    }
}
