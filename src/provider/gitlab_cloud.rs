//! GitLab's cloud gateway, the "GitLab AI vendor model": not a model server but a gateway that
//! answers GitLab's own calls. A request is forwarded byte for byte, with the caller's own token;
//! nothing of this gateway is added.
//!
//! Source: contract::gitlab_client §1, §2.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::{Decode, Dialect, EventInfo, NativeCall, Outbound, SigningContext};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::Model;

/// Client's request, as it was received.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedRequest<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path and query, percent-encoded as the client chose.
    pub target: &'a str,
    /// Headers, all of them.
    pub headers: &'a HeaderMap,
    /// Body, complete.
    pub body: &'a Bytes,
}

/// Headers that are forwarded in addition to `X-Gitlab-…`: the ones that GitLab sets for its
/// gateway (contract::gitlab_client §2.1, §2.2), and the ones that negotiate the response's format.
/// All others belong to the hop to this gateway: cookies, `Forwarded`, keys of our own.
const FORWARDED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::USER_AGENT,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
];

/// Builds the request that forwards a received one to a gateway.
pub fn forward_request(received: &ReceivedRequest<'_>) -> Outbound {
    let mut headers = HeaderMap::with_capacity(received.headers.len());
    // headers that `Connection` names belong to the connection (RFC 9110 §7.6.1)
    let connection = received.headers.get_all(header::CONNECTION).iter();
    let hop: Vec<&str> = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .collect();
    let is_forwarded = |name: &HeaderName| {
        (FORWARDED.contains(name) || name.as_str().starts_with("x-gitlab-"))
            && !hop.iter().any(|hop| hop.trim().eq_ignore_ascii_case(name.as_str()))
    };
    for (name, value) in received.headers.iter().filter(|(name, _)| is_forwarded(name)) {
        headers.append(name, value.clone());
    }
    if let Some(token) = headers.get_mut(header::AUTHORIZATION) {
        token.set_sensitive(true);
    }
    Outbound {
        method: received.method.clone(),
        path: received.target.into(),
        headers,
        body: received.body.clone().into(),
    }
}

/// Dialect of GitLab's cloud; it has no state.
pub(super) struct GitlabCloud;

impl Dialect for GitlabCloud {
    fn encode(&self, _generation: &Generation, _model: &Model) -> Result<Outbound, GatewayError> {
        Err(not_a_model())
    }

    fn native_path(&self, _call: NativeCall, _model: &Model) -> Option<Box<str>> {
        None
    }

    fn authorize(
        &self,
        _outbound: &mut Outbound,
        _model: &Model,
        _attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError> {
        // the caller's own token came with the request
        Ok(())
    }

    fn decode_response(
        &self,
        _generation: &Generation,
        _body: &[u8],
    ) -> Result<Vec<Delta>, GatewayError> {
        Err(not_a_model())
    }

    fn stream_decoder(&self, _generation: &Generation) -> Box<dyn Decode> {
        Box::new(Self)
    }

    fn inspect_event(&self, _data: &[u8]) -> EventInfo {
        EventInfo::default()
    }

    fn parse_usage(&self, _body: &[u8]) -> Option<Usage> {
        None
    }

    fn error_from_response(
        &self,
        status: StatusCode,
        _headers: &HeaderMap,
        _body: &Bytes,
    ) -> GatewayError {
        GatewayError::new(
            Kind::UpstreamStatus(status.as_u16()),
            "GitLab's cloud gateway refused the request",
        )
    }
}

/// No request to the cloud has a response that would be decoded.
impl Decode for GitlabCloud {
    fn feed(&mut self, _chunk: Bytes, _out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        Err(not_a_model())
    }

    fn finish(&mut self, _out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        Err(not_a_model())
    }
}

fn not_a_model() -> GatewayError {
    let text = "GitLab's cloud gateway answers GitLab's own calls only: route this feature to a model in [features]";
    GatewayError::new(Kind::NoModel, text)
}
