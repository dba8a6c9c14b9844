//! Certificates and keys out of PEM files, ours towards clients and ours towards model servers;
//! what is wrong is told without a byte of what stands there. And from when until when they hold:
//! two dates out of the DER (RFC 5280 §4.1), for warnings only. What a certificate is worth is
//! decided by rustls, here and at the other side.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::telemetry::rfc3339;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const DAY: u64 = 24 * 60 * 60;
/// From this long before its end a certificate is warned about.
const SOON: Duration = Duration::from_secs(14 * DAY);

/// Which of two files is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The certificate's.
    #[error("{0}")]
    Cert(String),
    /// The key's.
    #[error("{0}")]
    Key(String),
}

/// The certificates of a file, in its order; at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match list {
        Ok(list) if list.is_empty() => Err("holds no certificate".to_owned()),
        Ok(list) => Ok(list),
        Err(_) => Err("is not a PEM file".to_owned()),
    }
}

/// A chain, ours first, with its key (PKCS#8, PKCS#1 or SEC1, without a passphrase), and when all
/// of it holds.
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
    let private =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::Key(no_key(key).to_owned()))?;
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

/// What a file without a key is.
fn no_key(pem: &[u8]) -> &'static str {
    let holds = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    if holds("ENCRYPTED") {
        "has a passphrase: write it without one (openssl pkey -in OLD -out NEW)"
    } else if holds("BEGIN CERTIFICATE") {
        "holds a certificate and no key"
    } else {
        "holds no private key in PEM"
    }
}

/// `notBefore` and `notAfter`. Dates before 1970 read as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last.
    pub until: SystemTime,
}

impl Validity {
    /// What the operator should know of the dates by now.
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

    /// Whole days until the end.
    pub fn days_left(&self, now: SystemTime) -> u64 {
        self.until.duration_since(now).unwrap_or_default().as_secs() / DAY
    }

    /// Of one certificate; `None` when it is none.
    fn of(der: &[u8]) -> Option<Self> {
        let (certificate, _) = tagged(SEQUENCE, der)?;
        let (signed, _) = tagged(SEQUENCE, certificate)?;
        let rest = tagged(VERSION, signed).map_or(signed, |(_, rest)| rest);
        // serial number, signature algorithm, issuer
        let rest = (0..3).try_fold(rest, |rest, _| Some(element(rest)?.2))?;
        let (validity, _) = tagged(SEQUENCE, rest)?;
        let (kind, from, rest) = element(validity)?;
        let from = date(kind, from)?;
        let (kind, until, _) = element(rest)?;
        Some(Self { from, until: date(kind, until)? })
    }

    /// When both hold: a chain is as good as its weakest link.
    fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

/// The content of the first element, which must have this tag; and what follows it.
fn tagged(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and what follows (X.690 §8.1, lengths below 4 GiB).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ` (50 to 99 are 1950 to 1999) or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn date(kind: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let year_digits = match kind {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    if text.len() != year_digits + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize, digits: usize| text.get(at..at + digits)?.parse::<i64>().ok();
    let year = match (number(0, year_digits)?, kind) {
        (year, UTC_TIME) if year < 50 => 2000 + year,
        (year, UTC_TIME) => 1900 + year,
        (year, _) => year,
    };
    let part = |index: usize| number(year_digits + 2 * index, 2);
    let days = days_since_1970(year, part(0)?, part(1)?);
    let seconds = ((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Civil date to days (Howard Hinnant's algorithm).
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{GENERALIZED_TIME, UTC_TIME, Validity, date};

    #[test]
    fn dates_become_seconds() {
        let seconds = |kind, text: &str| {
            date(kind, text.as_bytes()).map(|at| at.duration_since(UNIX_EPOCH).unwrap())
        };
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(Duration::ZERO));
        assert_eq!(seconds(UTC_TIME, "000229000000Z"), Some(Duration::from_secs(951_782_400)));
        assert_eq!(seconds(UTC_TIME, "251106132000Z"), Some(Duration::from_secs(1_762_435_200)));
        assert_eq!(
            seconds(GENERALIZED_TIME, "20991231235959Z"),
            Some(Duration::from_secs(4_102_444_799))
        );
        assert_eq!(seconds(UTC_TIME, "500101000000Z"), Some(Duration::ZERO), "1950 reads as 1970");
        for odd in ["", "Z", "2511061320Z", "251106132000", "25110613200+Z", "2511061320\u{e9}Z"] {
            assert_eq!(seconds(UTC_TIME, odd), None, "{odd}");
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
