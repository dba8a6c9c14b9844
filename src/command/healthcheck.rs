//! `weir healthcheck [URL]`: one GET of `/ready`. No runtime: it runs every few seconds next to the
//! gateway, against its admin listener. An `https` URL is verified as a model server's is.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Out;
use crate::config::{self, Environment};
use crate::model::{EndpointUrl, Scheme};
use crate::upstream::ClientTls;

/// The timeout of the connection and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the request and prints one line; returns 0 if the gateway is ready, else 1.
pub(super) fn run(
    url: Option<&str>,
    file: Option<&Path>,
    env: &Environment,
    out: &mut Out,
) -> ExitCode {
    let url = url.map_or_else(|| default_url(file, env), str::to_owned);
    let authorities = || config::authorities(&config::locate(file, env).unwrap_or_default(), env);
    match check(&url, authorities) {
        Ok(()) => {
            out.line(format_args!("ready: {url}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            out.remark(format_args!("not ready: {url}: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns `/ready` of `admin.listen`; of 127.0.0.1:8082 if the file has no address or is not
/// found.
fn default_url(file: Option<&Path>, env: &Environment) -> String {
    let path = config::locate(file, env).unwrap_or_default();
    let admin = config::admin_address(&path, env)
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8082)));
    let host = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}/ready", SocketAddr::new(host, admin.port()))
}

/// Sends the request to each address of the URL until one responds. Fails with the reason.
fn check(url: &str, authorities: impl FnOnce() -> ClientTls) -> Result<(), String> {
    let target = EndpointUrl::parse(url).map_err(|why| why.to_string())?;
    let tls = match target.scheme() {
        Scheme::Http => None,
        Scheme::Https => Some(authorities().config().map_err(|why| why.to_string())?),
    };
    let addresses =
        (target.host(), target.port()).to_socket_addrs().map_err(|why| why.to_string())?;
    let mut last_error = "no address".to_owned();
    for address in addresses {
        match get(&address, &target, tls.as_ref()) {
            Ok(200..=299) => return Ok(()),
            Ok(status) => return Err(format!("HTTP {status}")),
            Err(why) => last_error = why.to_string(),
        }
    }
    Err(last_error)
}

/// Returns the status of the response.
fn get(
    address: &SocketAddr,
    target: &EndpointUrl,
    tls: Option<&Arc<ClientConfig>>,
) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Some(config) = tls else { return request_status(&mut stream, target) };
    let name = ServerName::try_from(target.host().to_owned()).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    request_status(&mut rustls::Stream::new(&mut session, &mut stream), target)
}

fn request_status(stream: &mut (impl Read + Write), target: &EndpointUrl) -> io::Result<u16> {
    let path = if target.base_path().is_empty() { "/" } else { target.base_path() };
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", target.authority());
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = head
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok());
    status.ok_or_else(|| io::Error::other("the response is not HTTP/1"))
}
