//! `gitlab.cloud_url` → GitLab's cloud gateway as a model, for the features that say `"gitlab"`.

use std::sync::Arc;

use crate::auth::{GitlabSettings, Settings};
use crate::config::section::auth::is_open;
use crate::config::toml::diagnostic::{Fault, Severity, quoted};
use crate::config::toml::reader::Reader;
use crate::model::Model;

/// What it is called: in `[features]`, and as the `model` label.
pub(crate) const NAME: &str = "gitlab";

/// The cloud; `None` when a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Arc<Model>> {
    const PATH: &[&str] = &["gitlab", "cloud_url"];
    let url = reader.url(PATH)?;
    if is_open(&url) {
        let message =
            "plain HTTP: the callers' tokens would cross the network for everybody to read";
        let fault = reader.fault_of(&PATH.join("."), message).said(quoted(&url.to_string()));
        reader.faults.push(fault.hint(Some("use https://".to_owned())));
        return None;
    }
    Some(Arc::new(Model::gitlab_cloud(NAME, url)))
}

/// Warns where no caller holds a token that the cloud knows. GitLab signs its own for self-hosted
/// models only; for what it believes to be its own models it sends its licence server's
/// (gitlab-client.md §3.1).
pub(crate) fn is_open_to_somebody(reader: &mut Reader<'_>, auth: &Settings) {
    let (key, message, hint) = match auth {
        Settings::Off
        | Settings::Gitlab { gitlab: GitlabSettings { cloud_issuer: Some(_), .. }, .. } => return,
        Settings::Keys(_) => (
            "auth.mode",
            "static keys do not open GitLab's cloud: features set to \"gitlab\" will answer 403 to everybody",
            "set gitlab.url, so that GitLab's tokens are accepted",
        ),
        Settings::Gitlab { gitlab: GitlabSettings { cloud_issuer: None, .. }, .. } => (
            "gitlab.cloud_issuer",
            "without it the tokens that GitLab sends for features set to \"gitlab\" are 401",
            "set gitlab.cloud_issuer = \"https://customers.gitlab.com\"",
        ),
    };
    let fault = Fault { severity: Severity::Warning, ..reader.fault_of(key, message) };
    reader.faults.push(fault.hint(Some(hint.to_owned())));
}
