//! Which model answers one request: the rules of precedence, as a list that is walked top to
//! bottom.
//!
//! Pure data and functions: no I/O, no clock, no knowledge of HTTP servers or providers' bodies.

mod access;
mod budget;
mod endpoint;
mod family;
mod feature;
mod metadata;
mod model;
mod plan;
mod provider_defaults;
mod renewed;
mod table;

pub use access::{
    Access, ApiVersion, ApiVersionError, AwsCredentials, AwsKeys, AzureAccess, BedrockAccess,
    BedrockModel, BedrockModelError, Guardrail, GuardrailError, Region, RegionError,
};
pub use budget::{Budget, BudgetPatch};
pub use endpoint::{EndpointUrl, EndpointUrlError, Scheme, is_refused_address};
pub use family::{
    Completion, CompletionEndpoint, Families, Family, Fim, FimTemplate, FimTemplateError, ToolStyle,
};
pub use feature::{Class, Feature};
pub use metadata::{Metadata, RawMetadata, Target};
pub use model::{
    HealthCheck, Identifier, IdentifierError, Model, ModelId, ProviderKind, Replicas, Room,
};
pub use plan::{Route, Rule};
pub use provider_defaults::ProviderDefaults;
pub use renewed::{AwsChain, Entra, EntraIdentity, ManagedBy, Renewed, Temporary};
pub use table::{Ask, Choice, RequestModels, Table};
