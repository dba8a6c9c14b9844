//! How servers are connected to, according to one configuration: TLS identities and proxies. A
//! reload may change all of it: connections that are made from then on follow the new one, those
//! that exist live on and are reused for nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;

use crate::model::{EndpointUrl, Model, ModelId};
use crate::upstream::{ClientTls, Proxies, Proxy};

/// The settings of outgoing connections, from the file and the environment.
#[derive(Debug)]
pub struct Egress {
    id: u32,
    settings: EgressSettings,
}

/// The settings as they are read.
#[derive(Debug, Default, PartialEq)]
pub struct EgressSettings {
    /// For issuers of keys and credentials, and for GitLab's cloud: without a client certificate.
    pub anonymous: Arc<ClientTls>,
    /// For model servers: `[tls]`.
    pub models: Arc<ClientTls>,
    /// For the models whose `[models.…]` has a `tls` of its own.
    pub by_model: HashMap<ModelId, Arc<ClientTls>>,
    /// The outbound proxies.
    pub proxies: Proxies,
    /// Whether a model that a *request* names may have a loopback address.
    pub request_loopback: bool,
}

/// How a connection to one server is made.
#[derive(Clone, Debug)]
pub(crate) struct ConnectOptions {
    /// The settings that these options come from: connections of one configuration are not used by
    /// the next.
    pub(crate) egress_id: u32,
    /// The authorities trusted there, and the client certificate.
    pub(crate) tls: Arc<ClientTls>,
    /// The proxy to connect through.
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// The check of the resolved address, where a request named the server.
    pub(crate) checked: Option<Checked>,
}

/// The check of an address that a request named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Whether it may be on this machine.
    pub(crate) loopback: bool,
}

impl ConnectOptions {
    /// Returns ` by way of …`, to be appended to the server's address; empty without a proxy.
    pub(crate) fn describe(&self) -> String {
        self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" by way of {proxy}"))
    }
}

impl Egress {
    /// Creates an instance with an id of its own.
    pub fn new(settings: EgressSettings) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), settings }
    }

    /// Returns the settings.
    pub const fn settings(&self) -> &EgressSettings {
        &self.settings
    }

    /// Returns how to connect to a model's server.
    pub(crate) fn options_for_model(&self, model: &Model, url: &EndpointUrl) -> ConnectOptions {
        let EgressSettings { anonymous, models, by_model: own, proxies, request_loopback } =
            &self.settings;
        let tls = if model.provider.is_gateway() {
            anonymous
        } else {
            // a model that a request names is called `request`, which no configured model may be
            own.get(&model.id).unwrap_or(models)
        };
        let checked = model.from_request.then_some(Checked { loopback: *request_loopback });
        ConnectOptions {
            egress_id: self.id,
            tls: Arc::clone(tls),
            proxy: proxies.of(url).cloned(),
            checked,
        }
    }

    /// Returns how to connect to a configured server that is not a model's.
    pub(crate) fn options_for_server(&self, url: &EndpointUrl) -> ConnectOptions {
        let proxy = self.settings.proxies.of(url).cloned();
        ConnectOptions {
            egress_id: self.id,
            tls: Arc::clone(&self.settings.anonymous),
            proxy,
            checked: None,
        }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self::new(EgressSettings::default())
    }
}

/// The egress settings in force, for components that outlive a configuration.
#[derive(Clone, Debug, Default)]
pub struct SharedEgress {
    current: Arc<ArcSwap<Egress>>,
}

impl SharedEgress {
    /// Creates a handle that holds these settings.
    pub fn new(egress: Arc<Egress>) -> Self {
        Self { current: Arc::new(ArcSwap::new(egress)) }
    }

    /// Returns the settings in force.
    pub fn load(&self) -> Arc<Egress> {
        self.current.load_full()
    }

    /// Puts other settings in force, unless they are equal: then connections are kept. Returns
    /// those in force.
    pub fn put(&self, next: Arc<Egress>) -> Arc<Egress> {
        if self.current.load().settings != next.settings {
            self.current.store(next);
        }
        self.load()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Egress, EgressSettings};
    use crate::model::{Access, EndpointUrl, Model, ProviderKind, ReplicaSettings, TimeoutsPatch};
    use crate::upstream::ClientTls;

    #[test]
    fn only_model_servers_get_the_client_certificate() {
        let url = EndpointUrl::parse("https://h").unwrap();
        let model = |provider| Model {
            id: "m".into(),
            provider,
            upstream_name: "m".into(),
            family: Arc::default(),
            endpoints: vec![url.clone()],
            api_key: None,
            access: Access::Key,
            timeouts: TimeoutsPatch::default(),
            replicas: ReplicaSettings::default(),
            concurrency: None,
            priority: false,
            from_request: false,
        };
        let egress = Egress::new(EgressSettings {
            models: Arc::new(ClientTls::default()),
            ..Default::default()
        });
        let EgressSettings { anonymous, models, .. } = egress.settings();
        assert!(Arc::ptr_eq(
            &egress.options_for_model(&model(ProviderKind::OpenAi), &url).tls,
            models
        ));
        assert!(Arc::ptr_eq(
            &egress.options_for_model(&model(ProviderKind::Gitlab), &url).tls,
            anonymous
        ));
        assert!(Arc::ptr_eq(&egress.options_for_server(&url).tls, anonymous));
    }
}
