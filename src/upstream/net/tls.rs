//! TLS to servers: the system's authorities and the operator's own, verification always on; and the
//! certificate that says who we are, for those who ask.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::upstream::{PairError, Validity, certified};

/// Why there is no TLS.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// Neither the system nor the file names an authority.
    #[error("no certificate authorities: install ca-certificates or set tls.extra_ca")]
    NoAuthorities,
    /// rustls refused its own defaults.
    #[error("{0}")]
    Setup(#[from] rustls::Error),
}

/// Who we are to servers that ask: a certificate and its key.
pub struct ClientIdentity {
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

impl ClientIdentity {
    /// Reads the content of both files.
    pub fn parse(cert: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let (certified, validity) = certified(cert, key, &ring::default_provider())?;
        Ok(Self { certified: Arc::new(certified), validity })
    }

    /// From when until when the whole chain holds.
    pub const fn validity(&self) -> Validity {
        self.validity
    }
}

/// The key belongs to the certificate, which was checked: it is the same if that is.
impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

/// Keys stay where they are.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// Whom we believe, and who we are.
pub struct ClientTls {
    /// Which one it is: connections of one are never used for another.
    pub(crate) id: u32,
    extra_ca: Vec<CertificateDer<'static>>,
    identity: Option<Arc<ClientIdentity>>,
    /// Made at the first `https` connection: the system's authorities take a while to read.
    config: OnceLock<Result<Arc<ClientConfig>, TlsError>>,
}

impl ClientTls {
    /// With these authorities besides the system's.
    pub fn new(
        extra_ca: Vec<CertificateDer<'static>>,
        identity: Option<Arc<ClientIdentity>>,
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            extra_ca,
            identity,
            config: OnceLock::new(),
        }
    }

    /// Who we are, if we say so.
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identity.as_deref()
    }

    /// As rustls wants it. Its sessions are its own: none is resumed as somebody else.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.config.get_or_init(|| self.build()).clone()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        // A system without ca-certificates is fine as long as the operator names an authority.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.extra_ca.iter().cloned());
        if roots.is_empty() {
            return Err(TlsError::NoAuthorities);
        }
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        Ok(Arc::new(match &self.identity {
            Some(identity) => {
                let shown = SingleCertAndKey::from(Arc::clone(&identity.certified));
                builder.with_client_cert_resolver(Arc::new(shown))
            }
            None => builder.with_no_client_auth(),
        }))
    }

    /// What to do about a connection that TLS ended: for the operator, behind the error.
    pub(crate) fn advice(&self, error: &io::Error) -> &'static str {
        use AlertDescription as Alert;
        match (rustls_error(error), &self.identity) {
            (Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), _) => {
                " (name its authority in tls.extra_ca)"
            }
            (Some(rustls::Error::AlertReceived(Alert::CertificateRequired)), None) => {
                " (the server wants a client certificate: set tls.client_cert and tls.client_key, or the model's own)"
            }
            (
                Some(rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::BadCertificate)),
                None,
            ) => {
                " (does the server want a client certificate? tls.client_cert and tls.client_key, or the model's own)"
            }
            (Some(rustls::Error::AlertReceived(alert)), Some(_))
                if is_about_certificates(*alert) =>
            {
                " (the server does not take our client certificate: is it the right one in tls.client_cert or the \
                 model's own, still valid, and of an authority that the server knows?)"
            }
            _ => "",
        }
    }
}

impl Default for ClientTls {
    fn default() -> Self {
        Self::new(Vec::new(), None)
    }
}

/// Whether both say the same, made once or twice.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.extra_ca == other.extra_ca && self.identity == other.identity
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, extra_ca, identity, config: _ } = self;
        let fields = (id, extra_ca.len(), identity);
        f.debug_tuple("ClientTls").field(&fields).finish()
    }
}

/// The alert by which the other side ended a connection. With TLS 1.3 a server may refuse our
/// certificate after we took the handshake to be over: the alert is then read instead of an answer.
pub(crate) fn is_alert(error: &io::Error) -> bool {
    matches!(rustls_error(error), Some(rustls::Error::AlertReceived(_)))
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

const fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure
    )
}
