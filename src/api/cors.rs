//! Browsers: GitLab's Web IDE calls code completion from a page of GitLab's, which is a different
//! origin from ours.
//!
//! Source: contract::gitlab_client §6.4, contract::ai_gateway_server §1.0: any origin, POST, any
//! header. Nothing here depends on cookies, so a page can do no more than its own token allows;
//! with `auth.mode = "off"` any page may call, as any other client may.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::relay::Content;

/// Returns whether a page of another origin sends this: only browsers send `Origin`.
pub fn is_cross_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
}

/// Adds the header that lets a page of any origin read the response.
pub fn allow_any_origin(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// Returns the response to a CORS preflight (Fetch standard §3.3.2). Browsers send it without
/// credentials, so none are required. The allowed headers are the requested ones, one by one: `*`
/// does not include `Authorization`.
pub(super) fn preflight(headers: &HeaderMap) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Bytes::from_static(b"OK")));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(requested) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    response
}
