//! TLS towards clients: the certificate, its key, whose certificates clients must show, and the
//! handshake.
//!
//! What is in force may be replaced at any time: a connection keeps what it was accepted with.
//! HTTP/2 and HTTP/1.1 are offered (ALPN), in this order; a client that can speak neither is told
//! so in the handshake.

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

/// Bytes that a client may leave unread in our memory, besides the kernel's. One record.
const UNSENT: usize = 16 * 1024;
/// How often the dates of the certificate in force are looked at.
const EXPIRY_CHECK: Duration = Duration::from_hours(12);

/// Who we are to clients, and who they must be.
pub struct Identity {
    config: Arc<ServerConfig>,
    validity: Validity,
    mutual: bool,
}

/// The content of the files of `[server] tls`.
#[derive(Clone, Copy)]
pub struct PemFiles<'a> {
    /// The chain, ours first.
    pub cert: &'a [u8],
    /// PKCS#8, PKCS#1 (RSA) or SEC1 (EC), without a passphrase.
    pub key: &'a [u8],
    /// Authorities whose certificates clients must show.
    pub client_ca: Option<&'a [u8]>,
    /// Which of those no longer count: lists of revoked certificates.
    pub client_crl: Option<&'a [u8]>,
}

/// Which of the files is wrong, and how. Says nothing of what stands in them.
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
    /// Reads the files' content.
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

    /// From when until when the whole chain holds.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether clients must show a certificate.
    pub const fn is_mutual(&self) -> bool {
        self.mutual
    }
}

/// Keys stay where they are.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("validity", &self.validity)
            .field("mutual", &self.mutual)
            .finish()
    }
}

/// With lists of revoked certificates each certificate of a client's chain must be known not to be
/// on one: an authority without a list admits nobody.
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
    let lists = revoked(crl).map_err(IdentityError::ClientCrl)?;
    builder.with_crls(lists).build().map_err(|error| IdentityError::ClientCrl(error.to_string()))
}

fn revoked(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
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
    // A resumed session costs no signature and, as a ticket, us no memory. Where clients must show
    // who they are, each time counts.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if is_mutual {
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = ring::Ticketer::new()?;
    }
    Ok(config)
}

/// The identity in force; none: plain HTTP. Shared by the workers and whoever reloads.
#[derive(Clone, Debug)]
pub struct Certificates {
    identity: Arc<ArcSwapOption<Identity>>,
    expiry: Gauges<NoLabels>,
}

impl Certificates {
    /// None yet. The gauge shows when the one in force ends.
    pub fn new(expiry: Gauges<NoLabels>) -> Self {
        Self { identity: Arc::default(), expiry }
    }

    /// The one in force.
    pub fn load(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// Connections that are accepted from now on get this one.
    pub fn put(&self, identity: Option<Arc<Identity>>) {
        if let Some(Identity { validity, .. }) = identity.as_deref() {
            let seconds = validity.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.expiry.get(&NoLabels {}).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        } else {
            self.expiry.remove(&NoLabels {});
        }
        self.identity.store(identity);
    }

    /// A reload says once what is odd about a certificate's dates; a gateway runs for months.
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
pub(super) enum Refused {
    #[error("not TLS: plain HTTP on the TLS port?")]
    NotTls,
    #[error("TLS: no handshake within limits.header_timeout")]
    TimedOut,
    #[error("TLS: the client refused us: {0:?}")]
    ByClient(AlertDescription),
    #[error("TLS: the client's certificate: {0}")]
    Client(rustls::Error),
    #[error("TLS: {0}")]
    Failed(io::Error),
    #[error("TLS: Weir is stopping")]
    Draining,
}

impl Refused {
    fn of(error: io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())
        else {
            return Self::Failed(error);
        };
        match cause {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::ByClient(*alert),
            rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
                Self::Client(cause.clone())
            }
            _ => Self::Failed(error),
        }
    }

    pub(super) const fn labels(&self) -> HandshakeLabels {
        let reason = match self {
            Self::NotTls => HandshakeFailure::NotTls,
            Self::TimedOut => HandshakeFailure::TimedOut,
            Self::ByClient(_) => HandshakeFailure::RefusedByClient,
            Self::Client(_) => HandshakeFailure::ClientCertificate,
            Self::Failed(_) => HandshakeFailure::Failed,
            Self::Draining => HandshakeFailure::Draining,
        };
        HandshakeLabels { reason }
    }
}

/// The handshake, within this time.
pub(super) async fn accept(
    tcp: TcpStream,
    identity: &Identity,
    limit: Duration,
) -> Result<Stream, Refused> {
    let accepting = TlsAcceptor::from(Arc::clone(&identity.config)).accept(tcp);
    let accepted = timeout(limit, accepting).await.map_err(|_| Refused::TimedOut)?;
    let mut stream = accepted.map_err(Refused::of)?;
    stream.get_mut().1.set_buffer_limit(Some(UNSENT));
    Ok(Stream::Tls(Box::new(stream.into())))
}
