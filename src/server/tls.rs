//! TLS towards clients: the certificate, its key, the authorities of client certificates, and the
//! handshake.
//!
//! The configuration in force may be replaced at any time: a connection keeps the one it was
//! accepted with. HTTP/2 and HTTP/1.1 are offered (ALPN), in this order; the handshake fails for a
//! client that supports neither.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, InvalidMessage, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::telemetry::Gauges;
use crate::telemetry::labels::{HandshakeFailure, HandshakeLabels, NoLabels};
use crate::upstream::{PairError, Stream, Validity, certificates, certified};

/// Bytes that a client may leave unread in our memory, in addition to the kernel's. One record.
const MAX_UNSENT: usize = 16 * 1024;
/// The interval at which the dates of the certificate in force are checked.
const EXPIRY_CHECK: Duration = Duration::from_hours(12);

/// Our certificate and key, and how clients are authenticated.
pub struct Identity {
    config: Arc<ServerConfig>,
    validity: Validity,
    mutual: bool,
}

/// The content of the files of `[server] tls`.
#[derive(Clone, Copy)]
pub struct PemFiles<'a> {
    /// The certificate chain, ours first.
    pub cert: &'a [u8],
    /// PKCS#8, PKCS#1 (RSA) or SEC1 (EC), without a passphrase.
    pub key: &'a [u8],
    /// Authorities by which clients' certificates must be issued.
    pub client_ca: Option<&'a [u8]>,
    /// Certificate revocation lists of those authorities.
    pub client_crl: Option<&'a [u8]>,
}

/// Which of the files is wrong, and how. The text contains nothing of their content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// `cert`
    #[error("{0}")]
    Cert(String),
    /// `key`
    #[error("{0}")]
    Key(String),
    /// `client_ca`
    #[error("{0}")]
    ClientCa(String),
    /// `client_crl`
    #[error("{0}")]
    ClientCrl(String),
}

impl From<PairError> for IdentityError {
    fn from(error: PairError) -> Self {
        match error {
            PairError::Cert(why) => Self::Cert(why),
            PairError::Key(why) => Self::Key(why),
        }
    }
}

impl Identity {
    /// Parses the content of the files. Fails with the file that is wrong and why.
    pub fn parse(files: PemFiles<'_>) -> Result<Self, IdentityError> {
        let provider = Arc::new(ring::default_provider());
        let (certified, validity) = certified(files.cert, files.key, &provider)?;
        let certified = Arc::new(certified);
        let verifier =
            files.client_ca.map(|pem| verifier(pem, files.client_crl, &provider)).transpose()?;
        let mutual = verifier.is_some();
        let config = config(certified, verifier, provider)
            .map_err(|error| IdentityError::Cert(error.to_string()))?;
        Ok(Self { config: Arc::new(config), validity, mutual })
    }

    /// Returns the period in which the whole chain is valid.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Returns whether clients must present a certificate.
    pub const fn is_mutual(&self) -> bool {
        self.mutual
    }
}

/// Prints no keys.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("validity", &self.validity)
            .field("mutual", &self.mutual)
            .finish()
    }
}

/// Builds the verifier of client certificates. With revocation lists, the status of each
/// certificate of a client's chain must be known: an authority without a list admits nobody.
fn verifier(
    pem: &[u8],
    crl: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(IdentityError::ClientCa)? {
        roots.add(certificate).map_err(|error| IdentityError::ClientCa(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let Some(crl) = crl else {
        return builder.build().map_err(|error| IdentityError::ClientCa(error.to_string()));
    };
    let lists = revocation_lists(crl).map_err(IdentityError::ClientCrl)?;
    builder.with_crls(lists).build().map_err(|error| IdentityError::ClientCrl(error.to_string()))
}

/// Parses revocation lists. Fails when there is none, or the file is not PEM.
fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match lists {
        Ok(lists) if lists.is_empty() => {
            Err("holds no list of revoked certificates in PEM".to_owned())
        }
        Ok(lists) => Ok(lists),
        Err(_) => Err("is not a PEM file".to_owned()),
    }
}

fn config(
    certified: Arc<CertifiedKey>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let is_mutual = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![super::http2::ALPN.to_vec(), b"http/1.1".to_vec()];
    // A resumed session costs no signature and, as a ticket, us no memory. Where clients must
    // authenticate, they do so on each connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if is_mutual {
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = ring::Ticketer::new()?;
    }
    Ok(config)
}

/// The identity in force; without one, plain HTTP. Shared by the workers and the reload.
#[derive(Clone, Debug)]
pub struct Certificates {
    identity: Arc<ArcSwapOption<Identity>>,
    expiry: Gauges<NoLabels>,
}

impl Certificates {
    /// Starts without an identity. The gauge is set to the time when the one in force expires.
    pub fn new(expiry: Gauges<NoLabels>) -> Self {
        Self { identity: Arc::default(), expiry }
    }

    /// Returns the identity in force.
    pub fn load(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// Puts an identity in force for connections that are accepted from now on.
    pub fn set(&self, identity: Option<Arc<Identity>>) {
        if let Some(Identity { validity, .. }) = identity.as_deref() {
            let seconds = validity.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.expiry.get(&NoLabels {}).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        } else {
            self.expiry.remove(&NoLabels {});
        }
        self.identity.store(identity);
    }

    /// Warns of a certificate that expires soon or has expired, for as long as it is polled. A
    /// reload warns only once, and a gateway runs for months.
    pub async fn warn_of_expiry(self) {
        loop {
            tokio::time::sleep(EXPIRY_CHECK).await;
            if let Some(remark) =
                self.load().and_then(|identity| identity.validity.remark(SystemTime::now()))
            {
                tracing::warn!("server.tls.cert: {remark}");
            }
        }
    }
}

/// Why a handshake failed. `Display` is for the operator, the labels for the metric.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("not TLS: plain HTTP on the TLS port?")]
    NotTls,
    #[error("TLS: no handshake within limits.header_timeout")]
    TimedOut,
    #[error("TLS: the client rejected our certificate or protocol: {0:?}")]
    RefusedByClient(AlertDescription),
    #[error("TLS: the client's certificate: {0}")]
    Client(rustls::Error),
    #[error("TLS: {0}")]
    Failed(io::Error),
    #[error("TLS: Weir is stopping")]
    Draining,
}

impl HandshakeError {
    fn of(error: io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())
        else {
            return Self::Failed(error);
        };
        match cause {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::RefusedByClient(*alert),
            rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
                Self::Client(cause.clone())
            }
            _ => Self::Failed(error),
        }
    }

    /// Returns the labels of the metric.
    pub(super) const fn labels(&self) -> HandshakeLabels {
        let reason = match self {
            Self::NotTls => HandshakeFailure::NotTls,
            Self::TimedOut => HandshakeFailure::TimedOut,
            Self::RefusedByClient(_) => HandshakeFailure::RefusedByClient,
            Self::Client(_) => HandshakeFailure::ClientCertificate,
            Self::Failed(_) => HandshakeFailure::Failed,
            Self::Draining => HandshakeFailure::Draining,
        };
        HandshakeLabels { reason }
    }
}

/// Performs the handshake. Fails when it takes longer than `limit`.
pub(super) async fn accept(
    tcp: TcpStream,
    identity: &Identity,
    limit: Duration,
) -> Result<Stream, HandshakeError> {
    let accepting = TlsAcceptor::from(Arc::clone(&identity.config)).accept(tcp);
    let accepted = timeout(limit, accepting).await.map_err(|_| HandshakeError::TimedOut)?;
    let mut stream = accepted.map_err(HandshakeError::of)?;
    stream.get_mut().1.set_buffer_limit(Some(MAX_UNSENT));
    Ok(Stream::Tls(Box::new(stream.into())))
}
