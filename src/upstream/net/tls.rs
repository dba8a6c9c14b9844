//! TLS to servers: the system's authorities and the operator's own, verification always on; and the
//! client certificate, for servers that request one.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::upstream::{PairError, Validity, certified};

/// Why there is no TLS configuration.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// Neither the system nor the file names an authority.
    #[error("no certificate authorities: install ca-certificates or set tls.extra_ca")]
    NoAuthorities,
    /// rustls refused its own defaults.
    #[error("{0}")]
    Setup(#[from] rustls::Error),
}

/// The client certificate and its key.
pub struct ClientIdentity {
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

impl ClientIdentity {
    /// Parses the content of both files; fails when they do not belong together.
    pub fn parse(cert: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let (certified, validity) = certified(cert, key, &ring::default_provider())?;
        Ok(Self { certified: Arc::new(certified), validity })
    }

    /// Returns the period in which the whole chain is valid.
    pub const fn validity(&self) -> Validity {
        self.validity
    }
}

/// The key belongs to the certificate, which was checked: it is equal if the certificate is.
impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

/// Omits the key.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// The authorities that are trusted, and the client identity.
pub struct ClientTls {
    /// Its id: connections of one are never used for another.
    pub(crate) id: u32,
    extra_ca: Vec<CertificateDer<'static>>,
    identity: Option<Arc<ClientIdentity>>,
    /// Built at the first `https` connection: the system's authorities take a while to load.
    config: OnceLock<Result<Arc<ClientConfig>, TlsError>>,
}

impl ClientTls {
    /// Creates a configuration with these authorities in addition to the system's.
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

    /// Returns the client identity, if there is one.
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identity.as_deref()
    }

    /// Returns the rustls configuration, built at the first call; fails when there is no authority.
    /// It resumes no other configuration's sessions, so none under another identity.
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
                let resolver = SingleCertAndKey::from(Arc::clone(&identity.certified));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        }))
    }

    /// Returns what the operator may do about a connection that TLS ended, to be appended to the
    /// error; empty when nothing is known.
    pub(crate) fn hint(&self, error: &io::Error) -> &'static str {
        use AlertDescription as Alert;
        match (rustls_error(error), &self.identity) {
            (Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), _) => {
                " (name its authority in tls.extra_ca)"
            }
            (Some(rustls::Error::AlertReceived(Alert::CertificateRequired)), None) => {
                " (the server requires a client certificate: set tls.client_cert and tls.client_key, or the model's own)"
            }
            (
                Some(rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::BadCertificate)),
                None,
            ) => {
                " (does the server require a client certificate? tls.client_cert and tls.client_key, or the model's own)"
            }
            (Some(rustls::Error::AlertReceived(alert)), Some(_))
                if is_about_certificates(*alert) =>
            {
                " (the server does not take our client certificate: is it the right one in tls.client_cert or the \
                 model's own, still valid, and issued by an authority that the server trusts?)"
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

/// Equal settings are equal, however often they were built.
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

/// Returns whether the peer ended the connection with a TLS alert. With TLS 1.3 a server may refuse
/// our certificate after the handshake is over for us: the alert is then read in place of a
/// response.
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
