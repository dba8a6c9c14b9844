//! Outbound HTTP proxies: which servers are reached through one, and its tunnel.
//!
//! Every server is reached with CONNECT, those of plain HTTP too: the bytes in the tunnel are those
//! that would be sent without one, so keys, streams and pooled connections need no second form, and
//! the proxy's own credentials are in its own request only.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::model::{EndpointUrl, Scheme, is_forbidden_address};
use crate::secret::Secret;
use crate::wire::read_response_head;

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its URL; `http`, without a path.
    pub url: EndpointUrl,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Secret<String>>,
    /// The setting that it comes from: `proxy.url`, `HTTPS_PROXY`.
    pub source: Arc<str>,
}

/// Which servers are reached through which proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `https` servers.
    pub https: Option<Arc<Proxy>>,
    /// For `http` servers.
    pub http: Option<Arc<Proxy>>,
    /// Servers that are reached without a proxy.
    pub except: Vec<NoProxyRule>,
}

/// A rule for servers that are reached without a proxy; read as curl and Go read `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoProxyRule {
    /// `*`
    All,
    /// `example.com`, `.example.com`, `*.example.com`, with or without a port: the name and all
    /// subdomains.
    Name(Box<str>, Option<u16>),
    /// `10.0.0.0/8`, `10.1.2.3`: servers whose URL has an address.
    Network(IpAddr, u8),
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No connection to the proxy, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The proxy requires other credentials.
    #[error(
        "it requires other credentials (HTTP 407): proxy.credentials, or user:password@ in the variable"
    )]
    Credentials,
    /// The proxy refused with another status.
    #[error(
        "it makes no tunnel to {0}: HTTP {1}. Allow CONNECT to this port there, or name the server in {2}"
    )]
    Refused(String, StatusCode, &'static str),
    /// The response is not one to CONNECT.
    #[error("it does not answer as an HTTP proxy: {0}")]
    NotHttp(&'static str),
}

impl Proxy {
    /// Opens a tunnel to `host:port` on a new connection to the proxy. The caller bounds the time.
    pub(crate) async fn tunnel(
        &self,
        tcp: &mut TcpStream,
        target: &str,
    ) -> Result<(), TunnelError> {
        tcp.write_all(self.request(target).expose()).await?;
        let mut buffer = BytesMut::with_capacity(512);
        let head = loop {
            if let Some(head) =
                read_response_head(&mut buffer).map_err(|why| TunnelError::NotHttp(why.0))?
            {
                break head;
            }
            if tcp.read_buf(&mut buffer).await? == 0 {
                return Err(TunnelError::NotHttp("it closed the connection"));
            }
        };
        match head.status {
            status if status.is_success() && buffer.is_empty() => Ok(()),
            // in a tunnel the client sends first: these bytes belong to nothing
            status if status.is_success() => Err(TunnelError::NotHttp("bytes before the tunnel")),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(TunnelError::Credentials),
            status => {
                let is_from_file = self.source.contains('.');
                let except = if is_from_file { "proxy.except" } else { "NO_PROXY or proxy.except" };
                Err(TunnelError::Refused(target.to_owned(), status, except))
            }
        }
    }

    fn request(&self, target: &str) -> Secret<Vec<u8>> {
        let agent = concat!("user-agent: weir/", env!("CARGO_PKG_VERSION"));
        let mut head =
            format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{agent}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            // reserved at once: growing would leave a copy of the secret behind
            head.reserve_exact(value.expose().len() + 32);
            head.extend_from_slice(b"proxy-authorization: ");
            head.extend_from_slice(value.expose().as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Secret::new(head)
    }
}

/// Writes the URL and the setting that it comes from.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url, self.source)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxies {
    /// Returns the proxy for a server. `None` for this machine and for link-local addresses: what a
    /// cloud's metadata service or a local agent returns is for this process alone.
    pub fn of(&self, url: &EndpointUrl) -> Option<&Arc<Proxy>> {
        let proxy = match url.scheme() {
            Scheme::Https => &self.https,
            Scheme::Http => &self.http,
        };
        let proxy = proxy.as_ref()?;
        let host = url.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse().ok();
        let is_near =
            address.is_some_and(is_near) || host == "localhost" || host.ends_with(".localhost");
        let is_except =
            || self.except.iter().any(|except| except.covers(&host, address, url.port()));
        (!is_near && !is_except()).then_some(proxy)
    }
}

/// Returns whether it is a loopback, link-local or cloud metadata address.
pub(crate) fn is_near(address: IpAddr) -> bool {
    /// EKS gives pods their credentials at `fd00:ec2::23`, EC2 instances at `fd00:ec2::254`.
    const AWS: [u16; 2] = [0xfd00, 0xec2];
    let is_aws = |v6: Ipv6Addr| v6.segments()[..2] == AWS;
    is_forbidden_address(address, false) || matches!(address, IpAddr::V6(v6) if is_aws(v6))
}

impl NoProxyRule {
    /// Parses one entry of a list; the error is what was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "a name like \"example.com\", an address or a network like \"10.0.0.0/8\"";
        let text = text.trim().to_ascii_lowercase();
        let bare =
            |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if text == "*" {
            return Ok(Self::All);
        }
        if let Some(address) = bare(&text) {
            return Ok(Self::Network(address, width(address)));
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address = bare(address).ok_or(EXPECTED)?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address)).ok_or(EXPECTED)?;
            return Ok(Self::Network(address, bits));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| EXPECTED)?)),
            None => (&*text, None),
        };
        let name = name.trim_start_matches('*').trim_matches('.');
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if is_name { Ok(Self::Name(name.into(), port)) } else { Err(EXPECTED) }
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Name(name, required_port) => {
                let is_below = || {
                    host.strip_suffix(&**name)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                required_port.is_none_or(|required_port| required_port == port) && is_below()
            }
            Self::Network(network, bits) => {
                address.is_some_and(|address| is_within(address, *network, *bits))
            }
        }
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address.to_canonical(), network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{NoProxyRule, Proxies, Proxy};
    use crate::model::EndpointUrl;

    fn proxies(except: &str) -> Proxies {
        let url = EndpointUrl::parse("http://proxy:3128").unwrap();
        let proxy = Arc::new(Proxy { url, authorization: None, source: "proxy.url".into() });
        let except = except
            .split(',')
            .filter(|each| !each.is_empty())
            .map(|each| NoProxyRule::parse(each).unwrap())
            .collect();
        Proxies { https: Some(Arc::clone(&proxy)), http: Some(proxy), except }
    }

    fn is_proxied(except: &str, url: &str) -> bool {
        proxies(except).of(&EndpointUrl::parse(url).unwrap()).is_some()
    }

    #[test]
    fn exceptions_are_names_suffixes_ports_addresses_and_networks() {
        for (except, url, proxied) in [
            ("", "https://api.example.com", true),
            ("*", "https://api.example.com", false),
            ("example.com", "https://api.example.com", false),
            ("example.com", "https://example.com", false),
            ("example.com", "https://EXAMPLE.com.", false),
            ("example.com", "https://badexample.com", true),
            (".example.com", "https://api.example.com", false),
            ("*.example.com", "https://api.example.com", false),
            ("example.com:8443", "https://example.com", true),
            ("example.com:8443", "https://example.com:8443", false),
            ("a.test, gpu-1 ,b.test", "http://gpu-1:8000/v1", false),
            ("10.0.0.0/8", "http://10.200.1.1:8000", false),
            ("10.0.0.0/8", "http://11.0.0.1:8000", true),
            ("10.0.0.0/8", "http://ten.test:8000", true),
            ("0.0.0.0/0", "http://11.0.0.1:8000", false),
            ("192.0.2.7", "http://192.0.2.7", false),
            ("192.0.2.7", "http://192.0.2.70", true),
            ("2001:db8::/32", "http://[2001:db8::1]:8000", false),
            ("2001:db8::/32", "http://[2001:db9::1]:8000", true),
            ("10.0.0.0/8", "http://[::ffff:10.0.0.1]:8000", false),
        ] {
            assert_eq!(is_proxied(except, url), proxied, "{except:?} {url}");
        }
        for wrong in ["", ".", "10.0.0.0/33", "x/8", "a b", "host:port", "[::1]:80", "http://x"] {
            assert!(NoProxyRule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_machine_and_metadata_services_are_never_proxied() {
        for near in [
            "http://127.0.0.1:8000",
            "http://localhost:8000",
            "http://vllm.localhost:8000",
            "http://[::1]:8000",
            "http://169.254.169.254",
            "http://169.254.170.2",
            "http://[fd00:ec2::254]",
            "http://[fd00:ec2::23]",
        ] {
            assert!(!is_proxied("", near), "{near}");
        }
        assert!(is_proxied("", "http://metadata.test"));
    }
}
