//! Credentials that expire, of AWS's credential chain and of Entra ID. `credentials` fetches them
//! outside of the data path; a request uses the last ones until they expire, and waits a moment
//! when there are none.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crate::error::{GatewayError, Kind};
use crate::model::{AwsKeys, EndpointUrl, Region};
use crate::refreshed::{RefreshPolicy, Refreshed};
use crate::secret::Secret;

/// Refresh policy. At this point callers are authenticated, and `[limits]` has bounded their
/// number.
const REFRESH: RefreshPolicy = RefreshPolicy {
    min_interval: Duration::from_secs(5),
    max_interval: Duration::from_secs(60),
    max_wait: Duration::from_secs(2),
    max_waiters: 4096,
};
/// Minimum age at which credentials that the provider refused are fetched again: a role's session
/// may have been revoked, a file's key replaced. Most refusals have other reasons.
const MIN_AGE_TO_INVALIDATE: Duration = Duration::from_secs(60);

/// Credentials with their expiry time.
#[derive(Debug)]
pub struct Expiring<T> {
    /// The credentials.
    pub value: T,
    /// Expiry time; `None` when the source gives none.
    pub expires: Option<SystemTime>,
}

impl<T> Expiring<T> {
    /// Returns whether the credentials are valid at `now`.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Returns the remaining lifetime at `now`, zero after the expiry; `None` when there is no
    /// expiry time.
    pub fn remaining(&self, now: SystemTime) -> Option<Duration> {
        Some(self.expires?.duration_since(now).unwrap_or_default())
    }
}

/// AWS's credential chain: profile files, a web identity (IRSA), a container's role (ECS, EKS pod
/// identity), an instance's role (IMDSv2). One per configuration.
#[derive(Debug)]
pub struct AwsChain {
    /// Access key that was fetched last.
    pub keys: Refreshed<Expiring<AwsKeys>>,
    region: OnceLock<Region>,
}

impl Default for AwsChain {
    fn default() -> Self {
        Self { keys: Refreshed::new(REFRESH), region: OnceLock::new() }
    }
}

impl AwsChain {
    /// Stores the region of a model that uses the chain; the first one is kept.
    pub fn set_region(&self, region: &Region) {
        let _ = self.region.set(region.clone());
    }

    /// Returns the region whose STS is called when neither the environment nor the profile sets
    /// one.
    pub fn region(&self) -> Option<&Region> {
        self.region.get()
    }

    /// Returns the access key to sign with. Fails with a 503 when there is no valid one.
    pub fn current(&self, now: SystemTime) -> Result<Arc<Expiring<AwsKeys>>, GatewayError> {
        current(&self.keys, now, "The gateway has no valid AWS credentials at the moment").map_err(|(error, why)| {
            error.internal(format!(
                "{why}; give this machine a role, set AWS_BEARER_TOKEN_BEDROCK or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or set the model's api_key or access_key_id"
            ))
        })
    }
}

/// Token of Entra ID (formerly Azure AD).
#[derive(Debug)]
pub struct EntraToken {
    /// Identity that the token is issued to.
    pub identity: EntraIdentity,
    /// Scope: `https://cognitiveservices.azure.com/.default`.
    pub scope: Box<str>,
    /// Token that was fetched last.
    pub token: Refreshed<Expiring<Secret<String>>>,
}

/// Identity that Entra ID authenticates, and the endpoint it uses (contract::providers §d2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntraIdentity {
    /// Application that authenticates with its secret.
    Application {
        /// The authority and the tenant's path: `https://login.microsoftonline.com/{tenant}`.
        tenant: EndpointUrl,
        /// `client_id`
        client_id: Box<str>,
        /// `client_secret`
        client_secret: Secret<String>,
    },
    /// Application that authenticates with a token which the cluster writes into a file.
    Workload {
        /// The authority and the tenant's path.
        tenant: EndpointUrl,
        /// `client_id`
        client_id: Box<str>,
        /// `AZURE_FEDERATED_TOKEN_FILE`, read for every fetch.
        token_file: PathBuf,
    },
    /// Managed identity of the machine or the container.
    Managed {
        /// Service that issues its tokens.
        by: ManagedIdentitySource,
        /// Client id, where there are several identities.
        client_id: Option<Box<str>>,
    },
}

/// Service that issues a managed identity's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedIdentitySource {
    /// Instance metadata service at this address.
    Instance(EndpointUrl),
    /// App Service or Container Apps: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`.
    AppService(EndpointUrl, Secret<String>),
}

impl EntraToken {
    /// Creates a token and requests its first fetch.
    pub fn new(identity: EntraIdentity, scope: &str) -> Self {
        let token = Refreshed::new(REFRESH);
        token.request_fetch();
        Self { identity, scope: scope.into(), token }
    }

    /// Returns the token to send. Fails with a 503 when there is no valid one.
    pub fn current(&self, now: SystemTime) -> Result<Arc<Expiring<Secret<String>>>, GatewayError> {
        current(&self.token, now, "The gateway has no valid Entra ID token at the moment")
            .map_err(|(error, why)| error.internal(why))
    }
}

/// Credentials of either source, which are fetched again before they expire.
#[derive(Clone, Debug)]
pub enum RefreshableCredentials {
    /// AWS's credential chain.
    Aws(Arc<AwsChain>),
    /// Entra ID token.
    Entra(Arc<EntraToken>),
}

impl RefreshableCredentials {
    /// Waits for valid credentials, for at most the refresh policy's `wait`; returns at once when
    /// there are any.
    pub async fn wait_until_valid(&self, now: SystemTime) {
        match self {
            Self::Aws(chain) => drop(chain.keys.get_if(|keys| keys.is_valid(now)).await),
            Self::Entra(entra) => drop(entra.token.get_if(|token| token.is_valid(now)).await),
        }
    }

    /// Waits until a fetch has ended, successful or not: longer than a request would, for
    /// `weir probe`.
    pub async fn wait_for_fetch(&self) {
        match self {
            Self::Aws(chain) => chain.keys.wait_for_first().await,
            Self::Entra(entra) => entra.token.wait_for_first().await,
        }
    }

    /// Requests a new fetch after the provider has refused the credentials, unless they are new.
    pub fn invalidate(&self) {
        let age = match self {
            Self::Aws(chain) => chain.keys.age(),
            Self::Entra(entra) => entra.token.age(),
        };
        if age.is_some_and(|age| age > MIN_AGE_TO_INVALIDATE) {
            let _ = match self {
                Self::Aws(chain) => chain.keys.request_fetch(),
                Self::Entra(entra) => entra.token.request_fetch(),
            };
        }
    }

    /// Adopts the credentials that `before`, from before a reload, holds for the same identity.
    /// Returns false when the identities differ.
    pub fn adopt(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Aws(new), Self::Aws(old)) => new.keys.inherit(&old.keys),
            (Self::Entra(new), Self::Entra(old))
                if (&new.identity, &new.scope) == (&old.identity, &old.scope) =>
            {
                new.token.inherit(&old.token);
            }
            (Self::Aws(_) | Self::Entra(_), _) => return false,
        }
        true
    }

    /// Returns whether both are the same instance.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aws(one), Self::Aws(two)) => Arc::ptr_eq(one, two),
            (Self::Entra(one), Self::Entra(two)) => Arc::ptr_eq(one, two),
            (Self::Aws(_), Self::Entra(_)) | (Self::Entra(_), Self::Aws(_)) => false,
        }
    }
}

/// Returns the credentials that are valid at `now`; or the error, and why there are none.
fn current<T>(
    refreshed: &Refreshed<Expiring<T>>,
    now: SystemTime,
    without: &'static str,
) -> Result<Arc<Expiring<T>>, (GatewayError, String)> {
    let last = refreshed.get();
    let expired = if last.is_some() { "the last ones have expired; " } else { "" };
    last.filter(|last| last.is_valid(now)).ok_or_else(|| {
        let reason = refreshed.last_error().unwrap_or_else(|| "they are being fetched".to_owned());
        (GatewayError::new(Kind::NoCredentials, without), format!("{expired}{reason}"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{
        AwsChain, EntraIdentity, EntraToken, Expiring, ManagedIdentitySource,
        RefreshableCredentials,
    };
    use crate::error::Kind;
    use crate::model::EndpointUrl;

    fn managed(client_id: Option<&str>) -> RefreshableCredentials {
        let by =
            ManagedIdentitySource::Instance(EndpointUrl::parse("http://169.254.169.254").unwrap());
        RefreshableCredentials::Entra(Arc::new(EntraToken::new(
            EntraIdentity::Managed { by, client_id: client_id.map(Into::into) },
            "s",
        )))
    }

    #[test]
    fn credentials_are_valid_until_they_expire() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let until = Expiring { value: (), expires: Some(now + Duration::from_secs(1)) };
        assert!(until.is_valid(now) && !until.is_valid(now + Duration::from_secs(1)));
        assert_eq!(until.remaining(now + Duration::from_mins(1)), Some(Duration::ZERO));
        assert!(Expiring { value: (), expires: None }.is_valid(now));
    }

    #[tokio::test(start_paused = true)]
    async fn without_credentials_it_is_a_503_that_names_them() {
        let chain = Arc::new(AwsChain::default());
        RefreshableCredentials::Aws(Arc::clone(&chain)).wait_until_valid(SystemTime::now()).await;
        let error = chain.current(SystemTime::now()).unwrap_err();
        assert_eq!((error.kind(), error.kind().row().status.as_u16()), (Kind::NoCredentials, 503));
        assert!(
            error.public().contains("AWS credentials")
                && error.operator().unwrap().contains("being fetched")
        );
    }

    #[tokio::test]
    async fn only_credentials_of_the_same_identity_are_adopted() {
        assert!(managed(None).adopt(&managed(None)));
        assert!(!managed(None).adopt(&managed(Some("a"))));
        assert!(!managed(None).adopt(&RefreshableCredentials::Aws(Arc::default())));
        let one = managed(None);
        assert!(one.is_same(&one.clone()) && !one.is_same(&managed(None)));
    }
}
