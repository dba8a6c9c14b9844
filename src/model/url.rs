//! `EndpointUrl`: a model server's base address, parsed once; and the addresses that a request may
//! not name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::uri::{Authority, PathAndQuery};

/// Scheme of an endpoint: plain HTTP or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// Base URL `http://host:port/base/path`, without a trailing slash, a user, a query or a fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    scheme: Scheme,
    authority: Authority,
    host: Box<str>,
    port: u16,
    base_path: Box<str>,
}

/// Reason why a text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointUrlError {
    /// Neither `http://` nor `https://`.
    #[error("an endpoint starts with http:// or https://")]
    Scheme,
    /// No host, a bad port, or characters that a URL may not contain.
    #[error("not a URL of the form http://host:port/path")]
    Malformed,
    /// `user:password@`, which would end up in logs.
    #[error("no user or password in the address: use api_key")]
    UserInfo,
    /// A query (`?`) or a fragment (`#`).
    #[error("no query and no fragment in the address")]
    Query,
}

impl EndpointUrl {
    /// Parses an operator's or a request's endpoint. Trailing slashes are dropped
    /// (contract::gitlab_client §4.4).
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(EndpointUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(EndpointUrlError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(EndpointUrlError::UserInfo);
        }
        let authority: Authority = authority.parse().map_err(|_| EndpointUrlError::Malformed)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port_text = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match (port_text, scheme) {
            ("", Scheme::Http) => 80,
            ("", Scheme::Https) => 443,
            (text, _) => {
                text.trim_start_matches(':').parse().map_err(|_| EndpointUrlError::Malformed)?
            }
        };
        let base = path.trim_end_matches('/');
        // `PathAndQuery` lets other bytes pass; on the wire they would have to be percent-encoded
        let path_is_good =
            base.is_empty() || (base.is_ascii() && base.parse::<PathAndQuery>().is_ok());
        if host.is_empty() || port == 0 || !path_is_good {
            return Err(EndpointUrlError::Malformed);
        }
        Ok(Self { scheme, host: host.into(), port, base_path: base.into(), authority })
    }

    /// Returns the scheme.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns `host` or `host:port` as written: the value of the `Host` header.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the host name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, by default the scheme's.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL without its path: what a connection is opened to.
    #[must_use]
    pub fn without_path(&self) -> Self {
        Self { base_path: Box::default(), ..self.clone() }
    }

    /// Returns the URL with the first `len` bytes of its path only. `len` is a character boundary.
    #[must_use]
    pub(super) fn truncated_base(self, len: usize) -> Self {
        Self { base_path: self.base_path[..len].into(), ..self }
    }

    /// Returns the path that precedes the API's own, e.g. `/v1`; may be empty.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.base_path)
    }
}

/// Returns whether an address that a *request* named must not be connected to, whatever
/// `features.request_models` allows.
///
/// Checked after DNS resolution, so every spelling (decimal, hex, mapped IPv6, trailing dot) is the
/// same address here. Link-local covers the clouds' metadata services; `fd00:ec2::254` is AWS's
/// over IPv6.
pub fn is_forbidden_address(address: IpAddr, allow_loopback: bool) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => is_refused_v4(v4, allow_loopback),
        IpAddr::V6(v6) => is_refused_v6(v6, allow_loopback),
    }
}

/// Returns the IPv4 address that is embedded in a mapped (`::ffff:a.b.c.d`), NAT64 (`64:ff9b::`) or
/// 6to4 address; any other address is returned unchanged.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let s = v6.segments();
    let v4 =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

const fn is_refused_v4(v4: Ipv4Addr, allow_loopback: bool) -> bool {
    let first = v4.octets()[0];
    (v4.is_loopback() && !allow_loopback)
        || v4.is_link_local()
        || v4.is_multicast()
        || first == 0
        || first >= 240
}

fn is_refused_v6(v6: Ipv6Addr, allow_loopback: bool) -> bool {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    (v6.is_loopback() && !allow_loopback)
        || v6.is_unicast_link_local()
        || v6.is_multicast()
        || v6.is_unspecified()
        || v6 == AWS_METADATA
}

#[cfg(test)]
mod tests {
    use super::{EndpointUrl, EndpointUrlError, is_forbidden_address};

    #[test]
    fn parses_what_operators_write() {
        let url = EndpointUrl::parse("http://gpu-1:8000/v1/").unwrap();
        assert_eq!((url.host(), url.port(), url.base_path()), ("gpu-1", 8000, "/v1"));
        assert_eq!(url.to_string(), "http://gpu-1:8000/v1");
        let url = EndpointUrl::parse("https://[::1]").unwrap();
        assert_eq!((url.host(), url.port(), url.base_path()), ("::1", 443, ""));
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        let error = |text| EndpointUrl::parse(text).unwrap_err();
        assert_eq!(error("gpu:8000"), EndpointUrlError::Scheme);
        assert_eq!(error("http://"), EndpointUrlError::Malformed);
        assert_eq!(error("http://a b/"), EndpointUrlError::Malformed);
        assert_eq!(error("http://h:99999"), EndpointUrlError::Malformed);
        assert_eq!(error("http://u:p@h"), EndpointUrlError::UserInfo);
        assert_eq!(error("http://h/v1?x=1"), EndpointUrlError::Query);
        assert_eq!(error("http://h/v1/\u{a0}/"), EndpointUrlError::Malformed);
    }

    #[test]
    fn metadata_and_link_local_are_refused_in_every_form() {
        for refused in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "fd00:ec2::254",
        ] {
            assert!(is_forbidden_address(refused.parse().unwrap(), true), "{refused}");
        }
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_forbidden_address(loopback.parse().unwrap(), false), "{loopback}");
            assert!(!is_forbidden_address(loopback.parse().unwrap(), true), "{loopback}");
        }
        for fine in ["10.0.0.5", "192.168.1.1", "8.8.8.8", "2001:db8::1"] {
            assert!(!is_forbidden_address(fine.parse().unwrap(), false), "{fine}");
        }
    }
}
