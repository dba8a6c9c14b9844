//! Certificates and keys out of PEM files: the server's for its clients, and the client's for model
//! servers. An error never contains a byte of the file. And the validity of a certificate, for
//! warnings and `weir check` only: the peer decides in the TLS handshake whether to trust it.
//!
//! `der` decodes the fields up to the validity (RFC 5280 §4.1) and nothing behind it, so that an
//! unusual name or extension does not make a certificate unusable. `x509-cert` and `x509-parser`
//! decode every field; rustls does not expose the dates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::asn1::{AnyRef, GeneralizedTime, SequenceRef, UtcTime};
use der::{Reader as _, SliceReader, Tag, TagMode, TagNumber, Tagged as _};
use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::telemetry::rfc3339;

const DAY: u64 = 24 * 60 * 60;
/// A certificate that expires within this time is warned about.
const SOON: Duration = Duration::from_secs(14 * DAY);

/// Why a certificate and a key cannot be used together, by the file that is at fault. The text
/// continues a sentence that begins with the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The certificate file.
    #[error("{0}")]
    Cert(String),
    /// The key file.
    #[error("{0}")]
    Key(String),
}

/// Returns the certificates of a PEM file in the file's order, at least one. Fails when there is
/// none, or when the file is not PEM.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match list {
        Ok(list) if list.is_empty() => Err("holds no certificate".to_owned()),
        Ok(list) => Ok(list),
        Err(_) => Err("is not a PEM file".to_owned()),
    }
}

/// Returns a certificate chain with its private key, and the period in which the whole chain is
/// valid. The first certificate is the one that the key belongs to; the key is PKCS#8, PKCS#1 or
/// SEC1, without a passphrase. Fails when either file cannot be parsed, when the key's algorithm is
/// not supported, or when the two do not belong together.
pub fn certified(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Validity), PairError> {
    let chain = certificates(cert).map_err(PairError::Cert)?;
    let validity =
        chain.iter().map(|der| Validity::of(der)).reduce(|all, one| Some(all?.and(one?))).flatten();
    let validity =
        validity.ok_or_else(|| PairError::Cert("holds what is no certificate".to_owned()))?;
    let private = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| PairError::Key(why_no_key(key).to_owned()))?;
    let unknown = || "is of a kind that Weir does not take: RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519";
    let signing = provider
        .key_provider
        .load_private_key(private)
        .map_err(|_| PairError::Key(unknown().to_owned()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok((certified, validity))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(PairError::Key(
            "does not belong to the (first) certificate that is named beside it".to_owned(),
        )),
        Err(error) => Err(PairError::Cert(error.to_string())),
    }
}

/// Returns why a file contains no usable private key.
fn why_no_key(pem: &[u8]) -> &'static str {
    let holds = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    if holds("ENCRYPTED") {
        "has a passphrase: write it without one (openssl pkey -in OLD -out NEW)"
    } else if holds("BEGIN CERTIFICATE") {
        "holds a certificate and no key"
    } else {
        "holds no private key in PEM"
    }
}

/// The period in which a certificate is valid. Dates before 1970 are read as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`: the first second.
    pub from: SystemTime,
    /// `notAfter`: the last second.
    pub until: SystemTime,
}

impl Validity {
    /// Returns a warning for the operator when the certificate has expired, is not valid yet, or
    /// expires within two weeks; otherwise `None`.
    pub fn remark(&self, now: SystemTime) -> Option<String> {
        let Self { from, until } = *self;
        if until <= now {
            return Some(format!("the certificate expired on {}", rfc3339(until)));
        }
        if from > now {
            return Some(format!("the certificate is not valid before {}", rfc3339(from)));
        }
        let days = self.days_left(now);
        (until <= now + SOON)
            .then(|| format!("the certificate expires on {}, in {days} days", rfc3339(until)))
    }

    /// Returns the whole days until the certificate expires, zero once it has.
    pub fn days_left(&self, now: SystemTime) -> u64 {
        self.until.duration_since(now).unwrap_or_default().as_secs() / DAY
    }

    /// Decodes the validity of one certificate; `None` when the bytes are not a certificate.
    fn of(der: &[u8]) -> Option<Self> {
        Self::decode(der).ok()
    }

    fn decode(der: &[u8]) -> der::Result<Self> {
        let mut certificate = sequence(&mut SliceReader::new(der)?)?;
        let mut signed = sequence(&mut certificate)?;
        let _version: Option<u8> = signed.context_specific(TagNumber(0), TagMode::Explicit)?;
        let _serial_number = signed.tlv_bytes()?;
        let _signature_algorithm = signed.tlv_bytes()?;
        let _issuer = signed.tlv_bytes()?;
        let mut validity = sequence(&mut signed)?;
        Ok(Self { from: time(validity.decode()?)?, until: time(validity.decode()?)? })
    }

    /// Returns the period in which both are valid: a chain is valid while all its certificates are.
    fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

/// Returns a reader of the content of the SEQUENCE that comes next. Unlike `Reader::sequence`, it
/// may be dropped before its end.
fn sequence<'a>(outer: &mut SliceReader<'a>) -> der::Result<SliceReader<'a>> {
    SliceReader::new(outer.decode::<&SequenceRef>()?.as_bytes())
}

/// Converts a `Time` (RFC 5280 §4.1.2.5). The standard allows years before 1970, and tools that set
/// no date write year 1; `der` rejects them.
fn time(time: AnyRef<'_>) -> der::Result<SystemTime> {
    let is_before_1970 = match (time.tag(), time.value()) {
        (Tag::UtcTime, [b'5' | b'6', ..]) => true,
        (Tag::GeneralizedTime, year) => {
            matches!(year, [b'0', ..] | [b'1', b'0'..=b'8', ..] | [b'1', b'9', b'0'..=b'6', ..])
        }
        _ => false,
    };
    match time.tag() {
        _ if is_before_1970 => Ok(UNIX_EPOCH),
        Tag::UtcTime => Ok(time.decode_as::<UtcTime>()?.to_system_time()),
        _ => Ok(time.decode_as::<GeneralizedTime>()?.to_system_time()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{AnyRef, Tag, Validity, time};

    #[test]
    fn dates_become_seconds() {
        let seconds = |kind, text: &str| {
            time(AnyRef::new(kind, text.as_bytes()).unwrap())
                .ok()
                .map(|at| at.duration_since(UNIX_EPOCH).unwrap())
        };
        assert_eq!(seconds(Tag::UtcTime, "700101000000Z"), Some(Duration::ZERO));
        assert_eq!(seconds(Tag::UtcTime, "000229000000Z"), Some(Duration::from_secs(951_782_400)));
        assert_eq!(
            seconds(Tag::UtcTime, "251106132000Z"),
            Some(Duration::from_secs(1_762_435_200))
        );
        assert_eq!(
            seconds(Tag::GeneralizedTime, "20991231235959Z"),
            Some(Duration::from_secs(4_102_444_799))
        );
        assert_eq!(
            seconds(Tag::UtcTime, "500101000000Z"),
            Some(Duration::ZERO),
            "1950 reads as 1970"
        );
        assert_eq!(seconds(Tag::GeneralizedTime, "00010101000000Z"), Some(Duration::ZERO));
        for odd in ["", "Z", "2511061320Z", "251106132000", "25110613200+Z", "2511061320\u{e9}Z"] {
            assert_eq!(seconds(Tag::UtcTime, odd), None, "{odd}");
        }
    }

    #[test]
    fn a_cut_certificate_is_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["weir.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2101, 2, 3);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let validity = Validity::of(&der).unwrap();
        assert_eq!(validity.from, UNIX_EPOCH + Duration::from_secs(981_158_400));
        assert_eq!(validity.until, UNIX_EPOCH + Duration::from_secs(4_136_832_000));
        for length in 0..der.len() {
            assert_eq!(Validity::of(&der[..length]), None, "{length}");
        }
    }
}
