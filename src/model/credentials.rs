//! Credentials that expire: what AWS's credential chain and Entra ID give. `credentials` fetches
//! them beside the data path; a request uses the last ones until they expire, and waits a moment
//! when there are none.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crate::error::{GatewayError, Kind};
use crate::model::{AwsKeys, EndpointUrl, Region};
use crate::refreshed::{Fresh, Pace};
use crate::secret::Secret;

/// Callers are known by then, and `[limits]` has bounded how many there are.
const PACE: Pace = Pace {
    min_interval: Duration::from_secs(5),
    max_interval: Duration::from_secs(60),
    wait: Duration::from_secs(2),
    max_waiting: 4096,
};
/// Credentials that were refused are fetched again when they are older than this: a role's session
/// may have been revoked, a file's key replaced. Most refusals have other reasons.
const DOUBTFUL: Duration = Duration::from_secs(60);

/// Credentials with the time they are good for.
#[derive(Debug)]
pub struct Temporary<T> {
    /// The credentials.
    pub value: T,
    /// Until when; `None` says nothing of an end.
    pub expires: Option<SystemTime>,
}

impl<T> Temporary<T> {
    /// Whether they are good at this time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// How long they are good for, from now; zero when they are not.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        Some(self.expires?.duration_since(now).unwrap_or_default())
    }
}

/// AWS's credential chain: profile files, a web identity (IRSA), a container's role (ECS, EKS pod
/// identity), an instance's role (IMDSv2). One per configuration.
#[derive(Debug)]
pub struct AwsChain {
    /// What the chain gave last.
    pub keys: Fresh<Temporary<AwsKeys>>,
    region: OnceLock<Region>,
}

impl Default for AwsChain {
    fn default() -> Self {
        Self { keys: Fresh::new(PACE), region: OnceLock::new() }
    }
}

impl AwsChain {
    /// Notes where a model is that needs it.
    pub fn near(&self, region: &Region) {
        // the first one stays
        let _ = self.region.set(region.clone());
    }

    /// Whose STS is asked when neither the environment nor the profile says it.
    pub fn region(&self) -> Option<&Region> {
        self.region.get()
    }

    /// The keys to sign with.
    pub fn current(&self, now: SystemTime) -> Result<Arc<Temporary<AwsKeys>>, GatewayError> {
        current(&self.keys, now, "The gateway has no valid AWS credentials at the moment").map_err(|(error, why)| {
            error.internal(format!(
                "{why}; give this machine a role, set AWS_BEARER_TOKEN_BEDROCK or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or say the model's api_key or access_key_id"
            ))
        })
    }
}

/// A token of Entra ID (once Azure AD).
#[derive(Debug)]
pub struct Entra {
    /// As whom.
    pub identity: EntraIdentity,
    /// For what: `https://cognitiveservices.azure.com/.default`.
    pub scope: Box<str>,
    /// What Entra ID gave last.
    pub token: Fresh<Temporary<Secret<String>>>,
}

/// As whom Entra ID is asked, and where (providers.md d2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntraIdentity {
    /// An application, by its secret.
    Application {
        /// The authority and the tenant's path: `https://login.microsoftonline.com/{tenant}`.
        tenant: EndpointUrl,
        /// `client_id`
        client_id: Box<str>,
        /// `client_secret`
        client_secret: Secret<String>,
    },
    /// An application, by a token that the cluster writes into a file.
    Workload {
        /// The authority and the tenant's path.
        tenant: EndpointUrl,
        /// `client_id`
        client_id: Box<str>,
        /// `AZURE_FEDERATED_TOKEN_FILE`, read anew each time.
        token_file: PathBuf,
    },
    /// The identity of the machine or the container.
    Managed {
        /// Who gives it out.
        by: ManagedBy,
        /// Which one, where there are several.
        client_id: Option<Box<str>>,
    },
}

/// Who gives out a managed identity's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedBy {
    /// The instance metadata service at this address.
    Instance(EndpointUrl),
    /// App Service, Container Apps: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`.
    AppService(EndpointUrl, Secret<String>),
}

impl Entra {
    /// One that is to be fetched.
    pub fn new(identity: EntraIdentity, scope: &str) -> Self {
        let token = Fresh::new(PACE);
        token.ask();
        Self { identity, scope: scope.into(), token }
    }

    /// The token to send.
    pub fn current(&self, now: SystemTime) -> Result<Arc<Temporary<Secret<String>>>, GatewayError> {
        current(&self.token, now, "The gateway has no valid Entra ID token at the moment")
            .map_err(|(error, why)| error.internal(why))
    }
}

/// Either of them.
#[derive(Clone, Debug)]
pub enum Renewed {
    /// AWS's.
    Aws(Arc<AwsChain>),
    /// Entra ID's.
    Entra(Arc<Entra>),
}

impl Renewed {
    /// Waits a moment for credentials when there are none that are good.
    pub async fn ready(&self, now: SystemTime) {
        match self {
            Self::Aws(chain) => drop(chain.keys.get_if(|keys| keys.is_valid(now)).await),
            Self::Entra(entra) => drop(entra.token.get_if(|token| token.is_valid(now)).await),
        }
    }

    /// Waits until a fetch has ended, well or not: longer than a request would, for `weir probe`.
    pub async fn settled(&self) {
        match self {
            Self::Aws(chain) => chain.keys.settled().await,
            Self::Entra(entra) => entra.token.settled().await,
        }
    }

    /// The provider refused them: has them fetched again, unless they are new.
    pub fn doubt(&self) {
        let age = match self {
            Self::Aws(chain) => chain.keys.age(),
            Self::Entra(entra) => entra.token.age(),
        };
        if age.is_some_and(|age| age > DOUBTFUL) {
            let _ = match self {
                Self::Aws(chain) => chain.keys.ask(),
                Self::Entra(entra) => entra.token.ask(),
            };
        }
    }

    /// Takes over what one before a reload holds, if it is for the same.
    pub fn take_over(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Aws(new), Self::Aws(old)) => new.keys.take_over(&old.keys),
            (Self::Entra(new), Self::Entra(old))
                if (&new.identity, &new.scope) == (&old.identity, &old.scope) =>
            {
                new.token.take_over(&old.token);
            }
            (Self::Aws(_) | Self::Entra(_), _) => return false,
        }
        true
    }

    /// Whether both are the same one.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aws(one), Self::Aws(two)) => Arc::ptr_eq(one, two),
            (Self::Entra(one), Self::Entra(two)) => Arc::ptr_eq(one, two),
            (Self::Aws(_), Self::Entra(_)) | (Self::Entra(_), Self::Aws(_)) => false,
        }
    }
}

/// What is good now; or the error, and why there is nothing.
fn current<T>(
    fresh: &Fresh<Temporary<T>>,
    now: SystemTime,
    without: &'static str,
) -> Result<Arc<Temporary<T>>, (GatewayError, String)> {
    let held = fresh.get();
    let expired = if held.is_some() { "the last ones have expired; " } else { "" };
    held.filter(|held| held.is_valid(now)).ok_or_else(|| {
        let fault = fresh.fault().unwrap_or_else(|| "they are being fetched".to_owned());
        (GatewayError::new(Kind::NoCredentials, without), format!("{expired}{fault}"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{AwsChain, Entra, EntraIdentity, ManagedBy, Renewed, Temporary};
    use crate::error::Kind;
    use crate::model::EndpointUrl;

    fn managed(client_id: Option<&str>) -> Renewed {
        let by = ManagedBy::Instance(EndpointUrl::parse("http://169.254.169.254").unwrap());
        Renewed::Entra(Arc::new(Entra::new(
            EntraIdentity::Managed { by, client_id: client_id.map(Into::into) },
            "s",
        )))
    }

    #[test]
    fn credentials_are_good_until_they_expire() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let until = Temporary { value: (), expires: Some(now + Duration::from_secs(1)) };
        assert!(until.is_valid(now) && !until.is_valid(now + Duration::from_secs(1)));
        assert_eq!(until.left(now + Duration::from_mins(1)), Some(Duration::ZERO));
        assert!(Temporary { value: (), expires: None }.is_valid(now));
    }

    #[tokio::test(start_paused = true)]
    async fn without_credentials_it_is_a_503_that_names_them() {
        let chain = Arc::new(AwsChain::default());
        Renewed::Aws(Arc::clone(&chain)).ready(SystemTime::now()).await;
        let error = chain.current(SystemTime::now()).unwrap_err();
        assert_eq!((error.kind(), error.kind().row().status.as_u16()), (Kind::NoCredentials, 503));
        assert!(
            error.public().contains("AWS credentials")
                && error.operator().unwrap().contains("being fetched")
        );
    }

    #[tokio::test]
    async fn only_the_same_identity_is_taken_over() {
        assert!(managed(None).take_over(&managed(None)));
        assert!(!managed(None).take_over(&managed(Some("a"))));
        assert!(!managed(None).take_over(&Renewed::Aws(Arc::default())));
        let one = managed(None);
        assert!(one.is(&one.clone()) && !one.is(&managed(None)));
    }
}
