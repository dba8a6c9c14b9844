//! The routing table: `[features]` and `[models]` as one immutable value, and the evaluation of the
//! rules.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Feature, ModelMetadata, Route, Rule, Target};
use crate::error::{GatewayError, Kind};
use crate::model::{
    Access, AzureAccess, CredentialKind, EndpointUrl, Families, Model, ModelId, ProviderDefaults,
    RefreshableCredentials, Timeouts, TimeoutsPatch,
};

/// Value of one feature in `[features]`, or of `default`.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Model that answers, with its timeouts.
    Model(Arc<Route>),
    /// `"disabled"`: requests are refused.
    Disabled,
}

/// `features.request_models`: what happens to a model that a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestModels {
    /// It is used.
    #[default]
    Allow,
    /// It is used only if the file has its endpoint.
    Listed,
    /// It is ignored, as if the request had named none.
    Ignore,
}

/// Fields of a request that determine its model.
#[derive(Debug, Default)]
pub struct RouteQuery {
    /// GitLab's feature, if the API endpoint belongs to one.
    pub feature: Option<Feature>,
    /// `model_metadata` or the flat fields, validated.
    pub metadata: Option<ModelMetadata>,
}

/// Routing table of one configuration.
#[derive(Debug)]
pub struct Table {
    features: Vec<Option<Choice>>,
    default: Option<Choice>,
    named: HashMap<ModelId, Arc<Route>>,
    request_models: RequestModels,
    base_timeouts: Timeouts,
    providers: ProviderDefaults,
    families: Families,
}

/// An empty table, in which no request has a route.
impl Default for Table {
    fn default() -> Self {
        Self::new(Vec::new(), RequestModels::Allow, Timeouts::DEFAULT)
    }
}

impl Table {
    /// Creates a table of these models without routes. `base` is `[timeouts]`.
    pub fn new(models: Vec<Arc<Model>>, request_models: RequestModels, base: Timeouts) -> Self {
        let named = models.into_iter().map(|model| {
            let budget = base.patched(&model.timeouts);
            (
                Arc::clone(&model.id),
                Arc::new(Route {
                    feature: None,
                    model,
                    timeouts: budget,
                    rule: Rule::Named,
                    fallback: None,
                }),
            )
        });
        Self {
            features: vec![None; Feature::COUNT],
            default: None,
            named: named.collect(),
            request_models,
            base_timeouts: base,
            providers: ProviderDefaults::default(),
            families: Families::default(),
        }
    }

    /// Sets the value of a feature in `[features]`.
    pub fn set(&mut self, feature: Feature, choice: Choice) {
        self.features[feature.index()] = Some(choice);
    }

    /// Sets `features.default`.
    pub fn set_default(&mut self, choice: Choice) {
        self.default = Some(choice);
    }

    /// Sets the operator's region and credentials for models that requests bring.
    pub fn set_providers(&mut self, providers: ProviderDefaults) {
        self.providers = providers;
    }

    /// Iterates over the credentials that are fetched, for models of the file and of requests; the
    /// same ones may occur more than once.
    pub fn refreshable_credentials(&self) -> impl Iterator<Item = RefreshableCredentials> {
        let of_requests =
            self.providers.credentials.as_ref().and_then(|credentials| credentials.refreshable());
        self.named.values().filter_map(|route| route.model.access.refreshable()).chain(of_requests)
    }

    /// Returns the families.
    pub const fn families(&self) -> &Families {
        &self.families
    }

    /// Sets the families of models that requests bring.
    pub fn set_families(&mut self, families: Families) {
        self.families = families;
    }

    /// Iterates over the models of the file.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.named.values()
    }

    /// Returns the choice of rule 1: the feature's own line, else its parent's, or `None`.
    pub fn feature_choice(&self, feature: Feature) -> Option<(&Choice, Rule)> {
        let own = self.features[feature.index()].as_ref().map(|choice| (choice, Rule::Feature));
        own.or_else(|| {
            let parent = self.features[feature.parent()?.index()].as_ref()?;
            Some((parent, Rule::Parent))
        })
    }

    /// Returns what happens to a model that a request names.
    pub const fn request_models(&self) -> RequestModels {
        self.request_models
    }

    /// Returns the choice of rule 4: `features.default`.
    pub const fn default_choice(&self) -> Option<&Choice> {
        self.default.as_ref()
    }

    /// Returns a route to GitLab's cloud, or `None` when no feature has one.
    pub fn cloud(&self) -> Option<&Arc<Route>> {
        self.features.iter().flatten().chain(&self.default).find_map(|choice| match choice {
            Choice::Model(route) if route.model.provider.is_gateway() => Some(route),
            Choice::Model(_) | Choice::Disabled => None,
        })
    }

    /// Evaluates the rules of precedence ([`Rule`]) for a caller whose token is not bound to a
    /// model.
    pub fn resolve(&self, query: RouteQuery) -> Result<Arc<Route>, GatewayError> {
        self.resolve_for(query, None)
    }

    /// Evaluates the rules of precedence ([`Rule`]); the first match decides. `bound` is the model
    /// of the caller's token, which is ignored when the file no longer has it. Fails when the
    /// feature is disabled, when no rule matches, and when the request's own model is not allowed.
    pub fn resolve_for(
        &self,
        query: RouteQuery,
        bound: Option<&str>,
    ) -> Result<Arc<Route>, GatewayError> {
        let feature = query.feature;
        if let Some((choice, rule)) = feature.and_then(|f| self.feature_choice(f)) {
            return self.apply(choice, feature, rule);
        }
        if let Some(metadata) =
            query.metadata.filter(|_| self.request_models != RequestModels::Ignore)
        {
            return self.named_by_request(metadata, feature);
        }
        if let Some(named) = bound.and_then(|name| self.named.get(name)) {
            return self.apply(&Choice::Model(Arc::clone(named)), feature, Rule::Token);
        }
        match &self.default {
            Some(choice) => self.apply(choice, feature, Rule::Default),
            None => Err(no_model(feature)),
        }
    }

    /// Returns the route of an OpenAI-style request, which names a model of the file or
    /// `feature/<name>`. Fails when neither exists.
    pub fn resolve_named(&self, name: &str) -> Result<Arc<Route>, GatewayError> {
        if let Some(feature) = name.strip_prefix("feature/") {
            let feature = Feature::parse(feature).ok_or_else(|| unknown_model(name))?;
            let route = self.resolve(RouteQuery { feature: Some(feature), metadata: None })?;
            return if route.model.provider.is_gateway() {
                Err(answers_gitlab_only(feature))
            } else {
                Ok(route)
            };
        }
        self.named.get(name).cloned().ok_or_else(|| unknown_model(name))
    }

    /// Returns whether an OpenAI-style request may use this name: a model of the file, or
    /// `feature/…`.
    pub fn has_model(&self, name: &str) -> bool {
        name.starts_with("feature/") || self.named.contains_key(name)
    }

    fn apply(
        &self,
        choice: &Choice,
        feature: Option<Feature>,
        rule: Rule,
    ) -> Result<Arc<Route>, GatewayError> {
        match choice {
            Choice::Disabled => Err(disabled(feature)),
            Choice::Model(route) if route.feature == feature && route.rule == rule => {
                Ok(Arc::clone(route))
            }
            // a parent's or the default's line: same model, this feature's own label and limit
            Choice::Model(route) => Ok(Arc::new(route.for_feature(feature, rule))),
        }
    }

    fn named_by_request(
        &self,
        metadata: ModelMetadata,
        feature: Option<Feature>,
    ) -> Result<Arc<Route>, GatewayError> {
        let provider = metadata.identifier.provider;
        let from_request = matches!(metadata.target, Target::Endpoint { .. });
        let (endpoint, api_key, access) = match metadata.target {
            Target::Endpoint { url, api_key }
                if provider.credentials() == CredentialKind::Azure =>
            {
                let version = self.providers.api_version.clone();
                (url, api_key, Access::Azure(AzureAccess { version, entra: None }))
            }
            Target::Endpoint { url, api_key } => (url, api_key, Access::Key),
            Target::Bedrock(model) => {
                let (url, access) = self.providers.bedrock(&model)?;
                (url, None, Access::Bedrock(Box::new(access)))
            }
        };
        if self.request_models == RequestModels::Listed && !self.has_endpoint(&endpoint) {
            return Err(GatewayError::new(
                Kind::EndpointRefused,
                "The endpoint named in the request is not in Weir's file (features.request_models = \"listed\")",
            )
            .internal(format!("refused endpoint {endpoint}")));
        }
        let model = Model {
            id: request_label(),
            provider,
            upstream_name: metadata.identifier.model.into(),
            family: self.families.get(&metadata.family),
            endpoints: vec![endpoint],
            api_key,
            access,
            timeouts: TimeoutsPatch::default(),
            replicas: crate::model::ReplicaSettings::default(),
            concurrency: None,
            priority: false,
            from_request,
        };
        let budget = self.base_timeouts.capped(feature.and_then(Feature::total_limit));
        Ok(Arc::new(Route {
            feature,
            model: Arc::new(model),
            timeouts: budget,
            rule: Rule::Request,
            fallback: None,
        }))
    }

    fn has_endpoint(&self, endpoint: &EndpointUrl) -> bool {
        self.named.values().any(|route| route.model.endpoints.contains(endpoint))
    }
}

/// Returns the `model` label of a model that a request brought: a constant, since requests are not
/// a closed set.
fn request_label() -> ModelId {
    static LABEL: std::sync::LazyLock<ModelId> = std::sync::LazyLock::new(|| Arc::from("request"));
    Arc::clone(&LABEL)
}

fn disabled(feature: Option<Feature>) -> GatewayError {
    let name = feature.map_or("default", Feature::name);
    GatewayError::new(
        Kind::Disabled,
        format!("{name} is disabled by the administrator (features.{name})"),
    )
}

fn no_model(feature: Option<Feature>) -> GatewayError {
    let name = feature.map_or("this request", Feature::name);
    let key = feature.map_or("…", Feature::name);
    GatewayError::new(
        Kind::NoModel,
        format!("No model is configured for {name}: set features.{key} or features.default"),
    )
}

/// Builds the error for a feature that is routed to GitLab's cloud: it accepts GitLab's own calls,
/// which no OpenAI-style client makes.
fn answers_gitlab_only(feature: Feature) -> GatewayError {
    let name = feature.name();
    let text = format!(
        "The feature `{name}` is GitLab's AI vendor model here, which only GitLab's own calls reach: ask for a model by \
         its name (GET /v1/models lists them), or route features.{name} to one"
    );
    GatewayError::new(Kind::UnknownModel, text)
}

fn unknown_model(name: &str) -> GatewayError {
    let shown: String = name.chars().take(100).collect();
    GatewayError::new(
        Kind::UnknownModel,
        format!(
            "The model `{shown}` does not exist here: GET /v1/models lists the names, `feature/<name>` asks by feature"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Choice, RequestModels, RouteQuery, Table};
    use crate::error::Kind;
    use crate::model::{
        Access, ApiVersion, AwsCredentials, EndpointUrl, Model, ProviderDefaults, ProviderKind,
        Region, Timeouts, TimeoutsPatch,
    };
    use crate::route::{Feature, ModelMetadata, RawModelMetadata, Route, Rule};
    use crate::secret::Secret;

    fn table(request_models: RequestModels, providers: Option<ProviderDefaults>) -> Table {
        let mut table = Table::new(Vec::new(), request_models, Timeouts::DEFAULT);
        providers.into_iter().for_each(|providers| table.set_providers(providers));
        table
    }

    fn operator() -> ProviderDefaults {
        ProviderDefaults {
            region: Some(Region::parse("eu-central-1").unwrap()),
            credentials: Some(Arc::new(AwsCredentials::ApiKey(Secret::new("operators".into())))),
            ..ProviderDefaults::default()
        }
    }

    fn resolve(table: &Table, identifier: &str) -> Result<Arc<Route>, (Kind, String)> {
        let raw = RawModelMetadata {
            name: Some("gpt".into()),
            endpoint: Some(
                "https://acme.openai.azure.com/openai/deployments/x?api-version=1".into(),
            ),
            api_key: Some("requests".into()),
            identifier: Some(identifier.into()),
        };
        let metadata = ModelMetadata::parse(&raw, &["model_metadata"]).unwrap();
        let result = table.resolve(RouteQuery { feature: None, metadata });
        result.map_err(|error| (error.kind(), error.public().to_owned()))
    }

    #[test]
    fn a_requests_bedrock_model_is_called_where_and_as_whom_the_operator_says() {
        let table = table(RequestModels::Allow, Some(operator()));
        let arn = "bedrock/arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1";
        for (identifier, region) in [
            ("bedrock/x", "eu-central-1"),
            ("bedrock/us-west-2/x", "us-west-2"),
            (arn, "us-east-1"),
        ] {
            let route = resolve(&table, identifier).unwrap();
            let Access::Bedrock(access) = &route.model.access else { panic!("{:?}", route.model) };
            assert_eq!(access.region.as_str(), region);
            assert_eq!(
                route.model.endpoints[0].host(),
                format!("bedrock-runtime.{region}.amazonaws.com")
            );
            assert!(
                !route.model.from_request,
                "the address is the operator's own: it may be on a private network"
            );
            assert!(route.model.api_key.is_none(), "the request's key is a dummy");
        }
    }

    #[test]
    fn without_region_or_credentials_it_is_a_422_that_names_the_variables() {
        let error = |providers| {
            let (kind, text) =
                resolve(&table(RequestModels::Allow, Some(providers)), "bedrock/x").unwrap_err();
            assert_eq!(kind.row().status, 422);
            text
        };
        let no_region = error(ProviderDefaults { region: None, ..operator() });
        assert!(
            no_region.ends_with("has no AWS region: set AWS_REGION in its environment"),
            "{no_region}"
        );
        let no_keys = error(ProviderDefaults { credentials: None, ..operator() });
        assert!(
            no_keys.contains("AWS_ACCESS_KEY_ID") && !no_keys.contains("AWS_REGION"),
            "{no_keys}"
        );
        let neither = error(ProviderDefaults::default());
        assert!(neither.contains("AWS_REGION; and AWS_BEARER_TOKEN_BEDROCK"), "{neither}");
    }

    #[test]
    fn a_requests_azure_model_brings_address_and_key_but_no_version() {
        let route = resolve(&table(RequestModels::Allow, None), "azure/gpt").unwrap();
        let version = ApiVersion::Dated("2025-02-01-preview".into());
        assert!(
            matches!(&route.model.access, Access::Azure(found) if found.version == version),
            "{:?}",
            route.model
        );
        assert_eq!(route.model.endpoints[0].to_string(), "https://acme.openai.azure.com");
        assert_eq!(route.model.api_key.as_ref().unwrap().expose(), "requests");
        assert!(route.model.from_request, "its address is checked after resolution");
    }

    #[test]
    fn listed_applies_to_the_operators_bedrock_too() {
        let table = table(RequestModels::Listed, Some(operator()));
        assert_eq!(resolve(&table, "bedrock/x").unwrap_err().0, Kind::EndpointRefused);
        assert_eq!(resolve(&table, "azure/x").unwrap_err().0, Kind::EndpointRefused);
    }

    #[test]
    fn a_bound_token_applies_where_neither_the_file_nor_the_request_names_a_model() {
        let model = |name: &str| {
            Arc::new(Model {
                id: name.into(),
                provider: ProviderKind::OpenAi,
                upstream_name: name.into(),
                family: Arc::default(),
                endpoints: vec![EndpointUrl::parse("http://h/v1").unwrap()],
                api_key: None,
                access: Access::Key,
                timeouts: TimeoutsPatch::default(),
                replicas: crate::model::ReplicaSettings::default(),
                concurrency: None,
                priority: false,
                from_request: false,
            })
        };
        let models = ["default", "bound", "code"].map(model);
        let mut table = Table::new(models.to_vec(), RequestModels::Allow, Timeouts::DEFAULT);
        let route = |index: usize, feature, rule| {
            let model = Arc::clone(&models[index]);
            Choice::Model(Arc::new(Route {
                feature,
                model,
                timeouts: Timeouts::DEFAULT,
                rule,
                fallback: None,
            }))
        };
        table.set_default(route(0, None, Rule::Default));
        let code = Some(Feature::CODE_COMPLETIONS);
        let resolve = |table: &Table, bound| {
            let route =
                table.resolve_for(RouteQuery { feature: code, metadata: None }, bound).unwrap();
            assert_eq!(
                (route.feature, route.timeouts.total),
                (code, Feature::CODE_COMPLETIONS.total_limit().unwrap())
            );
            (route.model.id.to_string(), route.rule)
        };
        assert_eq!(resolve(&table, Some("bound")), ("bound".into(), Rule::Token));
        assert_eq!(resolve(&table, Some("gone from the file")), ("default".into(), Rule::Default));
        assert_eq!(resolve(&table, None), ("default".into(), Rule::Default));
        table.set(Feature::CODE_COMPLETIONS, route(2, code, Rule::Feature));
        let named =
            table.resolve_for(RouteQuery { feature: code, metadata: None }, Some("bound")).unwrap();
        assert_eq!((&*named.model.id, named.rule), ("code", Rule::Feature));
    }
}
