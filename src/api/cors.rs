//! Browsers: GitLab's Web IDE calls code completion from a page of GitLab's, which is another
//! origin than ours.
//!
//! Source: gitlab-client.md §6.4, ai-gateway-server.md §1.0: any origin, POST, any header. Nothing
//! here goes by cookies, so a page can do no more than its own token allows; with
//! `auth.mode = "off"` any page may call, as anybody else may.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::relay::Content;

/// Whether a page of another origin asks; programs send no `Origin`.
pub fn is_cross_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
}

/// Lets the page read the answer, whatever it is.
pub fn allow_any_origin(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// What a browser wants to know before it sends a request (Fetch standard §3.3.2). It has no
/// credentials yet, so none are asked for. The headers are named one by one: `*` does not stand for
/// `Authorization`.
pub(super) fn preflight(headers: &HeaderMap) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Bytes::from_static(b"OK")));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}
