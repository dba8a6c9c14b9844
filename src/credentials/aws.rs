//! AWS's credential chain, over Weir's own connections, so that there is one egress path and one
//! TLS stack.
//!
//! `aws-config` reads the process's environment and AWS's files itself, and again for each attempt:
//! a profile may have been replaced. Without its `sso` feature: servers have no browser to sign in
//! with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{Region, imds};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::timeout;

use super::FETCH_TIMEOUT;
use crate::model::{AwsChain, AwsKeys, EndpointUrl, Expiring};
use crate::secret::Secret;
use crate::upstream::{FetchRequest, FetchResponse, Fetcher};

/// The region whose STS is called when none is configured.
const DEFAULT_STS_REGION: &str = "us-east-1";
/// The attempts at the metadata service, which responds at once or is not there.
const IMDS_ATTEMPTS: u32 = 2;

/// Runs the chain once. Fails with the reason of every link, on one line.
pub(super) async fn fetch(
    chain: &AwsChain,
    fetcher: &Arc<Fetcher>,
) -> Result<Expiring<AwsKeys>, String> {
    let config =
        ProviderConfig::without_region().with_http_client(Client { fetcher: Arc::clone(fetcher) });
    let sts_region = chain.region().map_or(DEFAULT_STS_REGION, |region| region.as_str());
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::builder().configure(&config).build())
        .or_else(Region::new(sts_region.to_owned()));
    let imds = imds::Client::builder().configure(&config).max_attempts(IMDS_ATTEMPTS).build();
    let provider = DefaultCredentialsChain::builder()
        .region(region)
        .imds_client(imds)
        .configure(config)
        .build()
        .await;
    let found = provider.provide_credentials().await.map_err(|error| error_chain(&error))?;
    let token = found.session_token().map(|token| Secret::new(token.to_owned()));
    let value = AwsKeys {
        access_key_id: found.access_key_id().into(),
        secret_access_key: Secret::new(found.secret_access_key().to_owned()),
        session_token: token,
    };
    Ok(Expiring { value, expires: found.expiry() })
}

/// Returns an error with its causes, on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut causes = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    causes.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The chain's HTTP client, over Weir's own connections.
#[derive(Clone)]
struct Client {
    fetcher: Arc<Fetcher>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connect = settings.connect_timeout().unwrap_or(FETCH_TIMEOUT);
        SharedHttpConnector::new(Connector {
            client: self.clone(),
            connect,
            read: settings.read_timeout(),
        })
    }
}

/// The connector of one link of the chain, with that link's timeouts.
#[derive(Debug)]
struct Connector {
    client: Client,
    connect: Duration,
    /// From the connection to the end of the response; `None` for the default.
    read: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (fetcher, connect) = (Arc::clone(&self.client.fetcher), self.connect);
        let limit = connect + self.read.unwrap_or(FETCH_TIMEOUT);
        HttpConnectorFuture::new(async move {
            let response = timeout(limit, exchange(&fetcher, &request, connect)).await;
            response.unwrap_or_else(|_| {
                Err(ConnectorError::timeout(format!("no response within {limit:?}").into()))
            })
        })
    }
}

async fn exchange(
    fetcher: &Fetcher,
    request: &HttpRequest,
    connect: Duration,
) -> Result<HttpResponse, ConnectorError> {
    let user = |why: &str| ConnectorError::user(why.to_owned().into());
    let uri: http::Uri = request.uri().parse().map_err(|_| user("the address is not a URI"))?;
    let (scheme, authority) =
        (uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |it| it.as_str()));
    let url = EndpointUrl::parse(&format!("{scheme}://{authority}"))
        .map_err(|why| user(&why.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value));
        headers.append(
            name.map_err(|_| user("a header's name"))?,
            value.map_err(|_| user("a header's value"))?,
        );
    }
    let body = request
        .body()
        .bytes()
        .map(Bytes::copy_from_slice)
        .ok_or_else(|| user("a streaming body"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = FetchRequest { method: request.method(), url: &url, path, headers, body };
    let response = fetcher.send(request, connect).await;
    let FetchResponse { status, headers, body } = response.map_err(|why| {
        let text = format!("{authority}: {why}");
        if why.is_timeout() {
            ConnectorError::timeout(text.into())
        } else {
            ConnectorError::io(text.into())
        }
    })?;
    let status = status.as_u16().try_into().map_err(|_| user("a status"))?;
    let mut response = HttpResponse::new(status, body.into());
    for (name, value) in &headers {
        // the chain does not use header values that are not text
        let Ok(value) = value.to_str() else { continue };
        response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
    }
    Ok(response)
}
