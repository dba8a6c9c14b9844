//! TLS to model servers: the system's authorities and the operator's own, verification always on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// An `extra_ca` file.
    #[error("{path}: {reason}")]
    ExtraCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither the system nor the file names an authority.
    #[error("no certificate authorities: install ca-certificates or set tls.extra_ca")]
    NoAuthorities,
    /// rustls refused its own defaults.
    #[error("{0}")]
    Setup(#[from] rustls::Error),
}

/// Reads the authorities and builds the one client configuration of the process.
pub fn tls_config(extra_ca: &[PathBuf]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // A system without ca-certificates is fine as long as the operator names an authority.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in extra_ca {
        roots.add_parsable_certificates(certificates(path)?);
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |reason: String| TlsError::ExtraCa { path: path.to_owned(), reason };
    let list: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match list {
        Ok(list) if list.is_empty() => Err(fault("no certificate in it".into())),
        Ok(list) => Ok(list),
        Err(error) => Err(fault(error.to_string())),
    }
}
