//! One connection: DNS, TCP, TLS, each timed, so that `weir probe` can show which step is slow.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{GatewayError, Kind};
use crate::model::{EndpointUrl, Scheme, is_forbidden_address};
use crate::upstream::net::egress::{Checked, ConnectOptions};
use crate::upstream::net::proxy::{TunnelError, is_near};
use crate::upstream::{Proxy, Stream};

/// The silence after which the kernel checks whether the peer is still there: a model may compute
/// for minutes.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long an address has before the next one is tried in parallel (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// The duration of each step.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectTimings {
    /// Name resolution; of the proxy's name, where there is one.
    pub dns: Duration,
    /// The TCP handshake, with the proxy where there is one.
    pub tcp: Duration,
    /// The proxy's tunnel; zero without one.
    pub tunnel: Duration,
    /// The TLS handshake; zero for `http`.
    pub tls: Duration,
}

/// Why there is no connection. `Display` is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("{0} does not resolve: {1}")]
    Dns(String, io::Error),
    /// A request named an address that requests may not name.
    #[error("{0} is a link-local, loopback or metadata address, which a request may not name")]
    Refused(IpAddr),
    /// The TCP connection failed.
    #[error("{0}: {1}")]
    Tcp(SocketAddr, io::Error),
    /// The proxy failed, or refused.
    #[error("proxy {0}: {1}")]
    Proxy(String, TunnelError),
    /// The handshake failed, or the certificate was refused.
    #[error("TLS with {0}: {1}{2}")]
    Tls(String, io::Error, &'static str),
    /// Our own TLS configuration failed.
    #[error("TLS is not available: {0}")]
    TlsSetup(String),
}

impl ConnectError {
    /// Converts it to the error of a request. The address is in the internal text only.
    pub fn to_gateway_error(&self) -> GatewayError {
        let (kind, public) = match self {
            Self::Dns(..) => (Kind::UpstreamConnect, "the model server's name does not resolve"),
            Self::Refused(_) => {
                (Kind::EndpointRefused, "The request names an address that Weir does not call")
            }
            Self::Tcp(_, e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                (Kind::UpstreamConnect, "the model server refused the connection")
            }
            Self::Tcp(..) => (Kind::UpstreamConnect, "the model server could not be reached"),
            Self::Proxy(_, TunnelError::Io(_)) => (
                Kind::UpstreamConnect,
                "the proxy on the way to the model server could not be reached",
            ),
            Self::Proxy(..) => {
                (Kind::UpstreamConnect, "the proxy on the way to the model server refused")
            }
            Self::Tls(..) | Self::TlsSetup(_) => {
                (Kind::UpstreamConnect, "TLS with the model server failed")
            }
        };
        GatewayError::new(kind, public).internal(self.to_string())
    }
}

/// Connects to a server, and returns the stream with the duration of each step. The caller bounds
/// the time.
///
/// The name of a server that a request named is resolved and checked here, proxy or not, and the
/// proxy is sent the address that was checked: the name might resolve to another one there.
pub(crate) async fn connect(
    url: &EndpointUrl,
    options: &ConnectOptions,
) -> Result<(Stream, ConnectTimings), ConnectError> {
    let started = Instant::now();
    let checked = match options.checked {
        Some(check) => Some(resolve_checked(url, check).await?),
        None => None,
    };
    let first = checked.as_ref().and_then(|addresses| addresses.first()).copied();
    let proxy =
        options.proxy.as_ref().filter(|_| !first.is_some_and(|address| is_near(address.ip())));
    let addresses = match (proxy, checked) {
        (Some(proxy), _) => {
            resolve(&proxy.url).await.map_err(|error| proxy_error(proxy, &error))?
        }
        (None, Some(addresses)) => addresses,
        (None, None) => resolve(url).await?,
    };
    let mut timings = ConnectTimings { dns: started.elapsed(), ..ConnectTimings::default() };
    let dialled = dial(&addresses).await;
    timings.tcp = started.elapsed() - timings.dns;
    let tcp = match proxy {
        Some(proxy) => {
            let mut tcp = dialled.map_err(|error| proxy_error(proxy, &error))?;
            let target = first.map_or_else(|| authority(url), |address| address.to_string());
            let tunnel = proxy.tunnel(&mut tcp, &target).await;
            tunnel.map_err(|error| ConnectError::Proxy(proxy.to_string(), error))?;
            tcp
        }
        None => dialled?,
    };
    timings.tunnel = started.elapsed() - timings.dns - timings.tcp;
    let stream = match url.scheme() {
        Scheme::Http => Stream::Plain(tcp),
        Scheme::Https => Stream::Tls(Box::new(handshake(url, options, tcp).await?.into())),
    };
    timings.tls = started.elapsed() - timings.dns - timings.tcp - timings.tunnel;
    Ok((stream, timings))
}

/// Converts it to an error of the proxy.
fn proxy_error(proxy: &Proxy, error: &ConnectError) -> ConnectError {
    ConnectError::Proxy(proxy.to_string(), TunnelError::Io(io::Error::other(error.to_string())))
}

/// Returns `host:port`, with the port in any case.
fn authority(url: &EndpointUrl) -> String {
    let (host, port) = (url.host(), url.port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn resolve_checked(
    url: &EndpointUrl,
    check: Checked,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let addresses = resolve(url).await?;
    match addresses.iter().find(|address| is_forbidden_address(address.ip(), check.loopback)) {
        Some(address) => Err(ConnectError::Refused(address.ip())),
        None => Ok(addresses),
    }
}

async fn handshake(
    url: &EndpointUrl,
    options: &ConnectOptions,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let config = options.tls.config().map_err(|error| ConnectError::TlsSetup(error.to_string()))?;
    let host = url.host().to_owned();
    let name = ServerName::try_from(host.clone())
        .map_err(|error| ConnectError::Tls(host.clone(), io::Error::other(error), ""))?;
    let connecting = TlsConnector::from(config).connect(name, tcp).await;
    connecting.map_err(|error| {
        let hint = options.tls.hint(&error);
        ConnectError::Tls(host, error, hint)
    })
}

/// Resolves a URL's host. Literal addresses skip the resolver; names go through the system's, so
/// `/etc/hosts` and search domains work as operators expect.
async fn resolve(url: &EndpointUrl) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(ip) = url.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, url.port())]);
    }
    let fault = |error| ConnectError::Dns(url.host().to_owned(), error);
    let list = spread(lookup_host((url.host(), url.port())).await.map_err(fault)?.collect());
    if list.is_empty() { Err(fault(io::Error::other("no addresses"))) } else { Ok(list) }
}

/// Shuffles the addresses of a name, so that connections are spread over a headless service of
/// Kubernetes. The family that the resolver prefers stays first, and one address of the other
/// family comes second, for a host without a route to the first (RFC 8305 §4).
fn spread(list: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v4 = list.first().is_some_and(SocketAddr::is_ipv4);
    let (mut preferred, others): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|each| each.is_ipv4() == is_first_v4);
    fastrand::shuffle(&mut preferred);
    if let Some(other) = fastrand::choice(others) {
        preferred.insert(1, other);
    }
    preferred.truncate(MAX_ADDRESSES);
    preferred
}

/// Returns the first connection that succeeds. Each address is tried when the one before has
/// failed, or in parallel when it has not connected soon.
async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    if let [only] = addresses {
        return dial_one(*only).await;
    }
    let (mut rest, mut dialling, mut last) = (addresses.iter(), Vec::new(), None);
    loop {
        match rest.next() {
            Some(address) => dialling.push(Box::pin(dial_one(*address))),
            None if dialling.is_empty() => {
                return Err(last.unwrap_or_else(|| {
                    ConnectError::Dns(String::new(), io::Error::other("no addresses"))
                }));
            }
            None => {}
        }
        let one = poll_fn(|cx| {
            for index in 0..dialling.len() {
                if let Poll::Ready(dialled) = dialling[index].as_mut().poll(cx) {
                    drop(dialling.swap_remove(index));
                    return Poll::Ready(dialled);
                }
            }
            Poll::Pending
        });
        let dialled = if rest.len() == 0 { Ok(one.await) } else { timeout(STAGGER, one).await };
        match dialled {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
    }
}

async fn dial_one(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream =
        TcpStream::connect(address).await.map_err(|error| ConnectError::Tcp(address, error))?;
    // Both are hints to the kernel; a connection without them still works.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, timeout};

    use super::{MAX_ADDRESSES, STAGGER, dial, spread};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn connections_are_spread_over_a_names_addresses() {
        let many = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"];
        let firsts: HashSet<_> = (0..200).map(|_| spread(addresses(&many))[0]).collect();
        assert_eq!(firsts.len(), many.len(), "each is the first now and then");
        assert_eq!(spread(addresses(&many)).len(), MAX_ADDRESSES);
        let both =
            spread(addresses(&["[fd00::1]:80", "10.0.0.1:80", "[fd00::2]:80", "10.0.0.2:80"]));
        assert!(
            both[0].is_ipv6() && both[1].is_ipv4() && both[2].is_ipv6(),
            "the other family comes second: {both:?}"
        );
        assert!(spread(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_costs_a_moment_and_one_that_refuses_nothing() {
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to_good = good.local_addr().unwrap();
        let refusing = {
            let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        assert_eq!(dial(&[refusing, to_good]).await.unwrap().peer_addr().unwrap(), to_good);
        assert!(dial(&[refusing, refusing]).await.is_err());

        // a full backlog: nothing is answered
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let to_full = full.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(connected) =
            timeout(Duration::from_millis(100), TcpStream::connect(to_full)).await
        {
            waiting.push(connected.unwrap());
        }
        let started = Instant::now();
        assert_eq!(dial(&[to_full, to_good]).await.unwrap().peer_addr().unwrap(), to_good);
        assert!(started.elapsed() >= STAGGER, "the first had its moment");
    }
}
