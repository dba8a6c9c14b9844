//! What a model is: its identifier and provider, its address, its credentials, its family, its
//! timeouts. Which model answers a request is decided in [`crate::route`].
//!
//! Pure data and functions: no I/O, no clock.

mod access;
mod credentials;
mod family;
#[expect(clippy::module_inception, reason = "the file that defines `Model`")]
mod model;
mod provider_defaults;
mod provider_kind;
mod timeouts;
mod url;

pub use access::{
    Access, ApiVersion, ApiVersionError, AwsCredentials, AwsKeys, AzureAccess, BedrockAccess,
    BedrockModel, BedrockModelError, Guardrail, GuardrailError, Region, RegionError,
};
pub use credentials::{
    AwsChain, EntraIdentity, EntraToken, Expiring, ManagedIdentitySource, RefreshableCredentials,
};
pub use family::{
    Completion, CompletionEndpoint, Families, Family, Fim, FimTemplate, FimTemplateError, ToolStyle,
};
pub use model::{
    ConcurrencySettings, HealthCheck, Identifier, IdentifierError, Model, ModelId, ReplicaSettings,
};
pub use provider_defaults::ProviderDefaults;
pub use provider_kind::{CredentialKind, DefaultEndpoint, Profile, ProviderKind, UrlRule};
pub use timeouts::{Timeouts, TimeoutsPatch};
pub use url::{EndpointUrl, EndpointUrlError, Scheme, is_forbidden_address};
