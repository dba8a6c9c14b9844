//! `Outward`: how servers are reached, as one configuration says it. A reload may change all of it:
//! connections that are made from then on follow the new one, those that are there live on and are
//! kept for nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;

use crate::model::{EndpointUrl, Model, ModelId};
use crate::upstream::{ClientTls, Proxies, Proxy};

/// What the file and the environment say about connecting outward.
#[derive(Debug)]
pub struct Outward {
    id: u32,
    says: OutwardSettings,
}

/// The same, as it is read.
#[derive(Debug, Default, PartialEq)]
pub struct OutwardSettings {
    /// Of issuers of keys and credentials, and of GitLab's cloud: nobody is told who we are.
    pub anonymous: Arc<ClientTls>,
    /// Of model servers: `[tls]`.
    pub models: Arc<ClientTls>,
    /// Of those whose `[models.…]` has a `tls` of its own.
    pub own: HashMap<ModelId, Arc<ClientTls>>,
    /// By way of whom.
    pub proxies: Proxies,
    /// Whether a model that a *request* names may be on a loopback address.
    pub request_loopback: bool,
}

/// How one server is reached.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Whose: connections of one configuration are not used by the next.
    pub(crate) outward: u32,
    /// Whom we believe there, and who we are.
    pub(crate) tls: Arc<ClientTls>,
    /// The proxy on the way.
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// Where a request named the server: its address is checked after resolution.
    pub(crate) checked: Option<Checked>,
}

/// What is checked of an address that a request named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Whether it may be on this machine.
    pub(crate) loopback: bool,
}

impl Way {
    /// ` by way of …`, behind the server's address; nothing without a proxy.
    pub(crate) fn told(&self) -> String {
        self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" by way of {proxy}"))
    }
}

impl Outward {
    /// Of these settings.
    pub fn new(says: OutwardSettings) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), says }
    }

    /// What it was made of.
    pub const fn settings(&self) -> &OutwardSettings {
        &self.says
    }

    /// To a model's server.
    pub(crate) fn to_model(&self, model: &Model, url: &EndpointUrl) -> Way {
        let OutwardSettings { anonymous, models, own, proxies, request_loopback } = &self.says;
        let tls = if model.provider.is_gateway() {
            anonymous
        } else {
            // a model that a request brings is `request`, which no model of the file may be called
            own.get(&model.id).unwrap_or(models)
        };
        let checked = model.from_request.then_some(Checked { loopback: *request_loopback });
        Way { outward: self.id, tls: Arc::clone(tls), proxy: proxies.of(url).cloned(), checked }
    }

    /// To a server of the operator's choice that is no model's.
    pub(crate) fn to_other(&self, url: &EndpointUrl) -> Way {
        let proxy = self.says.proxies.of(url).cloned();
        Way { outward: self.id, tls: Arc::clone(&self.says.anonymous), proxy, checked: None }
    }
}

impl Default for Outward {
    fn default() -> Self {
        Self::new(OutwardSettings::default())
    }
}

/// The one in force, for what outlives a configuration.
#[derive(Clone, Debug, Default)]
pub struct SharedOutward(Arc<ArcSwap<Outward>>);

impl SharedOutward {
    /// Starts with this one.
    pub fn new(outward: Arc<Outward>) -> Self {
        Self(Arc::new(ArcSwap::new(outward)))
    }

    /// The one in force.
    pub fn load(&self) -> Arc<Outward> {
        self.0.load_full()
    }

    /// Puts another in force, unless it says the same: then connections are kept. Returns what is
    /// in force.
    pub fn put(&self, next: Arc<Outward>) -> Arc<Outward> {
        if self.0.load().says != next.says {
            self.0.store(next);
        }
        self.load()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Outward, OutwardSettings};
    use crate::model::{Access, BudgetPatch, EndpointUrl, Model, ProviderKind, Replicas};
    use crate::upstream::ClientTls;

    #[test]
    fn only_model_servers_are_shown_the_models_certificate() {
        let url = EndpointUrl::parse("https://h").unwrap();
        let model = |provider| Model {
            id: "m".into(),
            provider,
            upstream_name: "m".into(),
            family: Arc::default(),
            endpoints: vec![url.clone()],
            api_key: None,
            access: Access::Key,
            timeouts: BudgetPatch::default(),
            replicas: Replicas::default(),
            room: None,
            priority: false,
            from_request: false,
        };
        let outward = Outward::new(OutwardSettings {
            models: Arc::new(ClientTls::default()),
            ..Default::default()
        });
        let OutwardSettings { anonymous, models, .. } = outward.settings();
        assert!(Arc::ptr_eq(&outward.to_model(&model(ProviderKind::OpenAi), &url).tls, models));
        assert!(Arc::ptr_eq(&outward.to_model(&model(ProviderKind::Gitlab), &url).tls, anonymous));
        assert!(Arc::ptr_eq(&outward.to_other(&url).tls, anonymous));
    }
}
