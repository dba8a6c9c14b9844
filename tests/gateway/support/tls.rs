//! Certificates made for one test, a TLS client with configurable trust and identity, and a TLS
//! front for the scripted model server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion,
    WantsVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::soon;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // a name of its own: otherwise a certificate of another authority would fail by its
        // signature, not as one of an unknown authority
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {}", fastrand::u64(..)));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns a revocation list with these certificates.
    pub(crate) fn revoking(&self, pairs: &[&Pair]) -> String {
        let revoked = |pair: &&Pair| RevokedCertParams {
            serial_number: serial(&KeyPair::from_pem(&pair.key).unwrap()),
            revocation_time: rcgen::date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2025, 1, 1),
            next_update: rcgen::date_time_ymd(2025, 2, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: pairs.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// Issues a certificate for this name or address, valid from one year until another.
    pub(crate) fn issue_between(&self, name: &str, years: (i32, i32)) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair { cert: self.sign(name, years, &key), key: key.serialize_pem() }
    }

    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.issue_between(name, (2020, 2100))
    }

    /// Signs a certificate for an existing key.
    pub(crate) fn sign(&self, name: &str, years: (i32, i32), key: &KeyPair) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.serial_number = Some(serial(key));
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.signed_by(key, &self.0).unwrap().pem()
    }
}

/// Returns a serial number derived from the key.
fn serial(key: &KeyPair) -> SerialNumber {
    let public = key.public_key_raw();
    SerialNumber::from_slice(&[&[1], &public[public.len() - 8..]].concat())
}

impl Pair {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect()
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Returns the key of a PKCS#8 file in the traditional format (`RSA`, `EC`): the content of its
/// first OCTET STRING.
pub(crate) fn older_kind(pkcs8: &[u8], kind: &str) -> String {
    let tag: &[u8] = if kind == "RSA" { &[0x04, 0x82] } else { &[0x04] };
    let head = if kind == "RSA" { 4 } else { 2 };
    let at = pkcs8.windows(tag.len()).position(|bytes| bytes == tag).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(&pkcs8[at + head..]);
    format!("-----BEGIN {kind} PRIVATE KEY-----\n{text}\n-----END {kind} PRIVATE KEY-----\n")
}

/// The TLS settings of a client.
pub(crate) struct Hello<'a> {
    pub(crate) trusts: &'a Authority,
    pub(crate) shows: Option<&'a Pair>,
    pub(crate) alpn: &'a [&'a str],
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
}

impl<'a> Hello<'a> {
    pub(crate) fn trusting(trusts: &'a Authority) -> Self {
        Self { trusts, shows: None, alpn: &["http/1.1"], versions: rustls::ALL_VERSIONS }
    }
}

/// Opens a TLS connection to `weir.test`.
pub(crate) async fn secure(
    address: SocketAddr,
    hello: Hello<'_>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(hello.trusts.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(hello.versions)
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match hello.shows {
        Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.private()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = hello.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = soon("connecting", TcpStream::connect(address)).await?;
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("weir.test").unwrap();
    soon("the handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

/// Starts a TLS listener that forwards what it reads to `address`.
pub(crate) async fn front(address: SocketAddr, pair: &Pair) -> SocketAddr {
    let config = server(rustls::ALL_VERSIONS)
        .with_no_client_auth()
        .with_single_cert(pair.chain(), pair.private());
    listen(address, config.unwrap()).await
}

/// Starts a TLS listener for clients with a certificate of this authority only.
pub(crate) async fn front_for(
    clients: &Authority,
    address: SocketAddr,
    pair: &Pair,
    version: &'static SupportedProtocolVersion,
) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(clients.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let config = server(&[version])
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain(), pair.private());
    listen(address, config.unwrap()).await
}

fn server(
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

async fn listen(address: SocketAddr, config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut plain = TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    at
}
