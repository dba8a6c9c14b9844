//! `gitlab.cloud_url` → GitLab's cloud gateway as a model, for the features set to `"gitlab"`.

use std::sync::Arc;

use crate::auth::{GitlabSettings, Settings};
use crate::config::section::auth::is_plain_http;
use crate::config::toml::diagnostic::{Reported, quoted};
use crate::config::toml::reader::Reader;
use crate::model::Model;

/// Its name in `[features]`, and as the `model` label.
pub(crate) const NAME: &str = "gitlab";

/// Reads the address of the cloud gateway. Plain HTTP is refused.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Arc<Model>, Reported> {
    const PATH: &[&str] = &["gitlab", "cloud_url"];
    let url = reader.url(PATH)?;
    if is_plain_http(&url) {
        let message =
            "plain HTTP: the callers' tokens would cross the network for everybody to read";
        let fault = reader.fault_of(&PATH.join("."), message).found(quoted(&url.to_string()));
        return Err(reader.report(fault.hint(Some("use https://".to_owned()))));
    }
    Ok(Arc::new(Model::gitlab_cloud(NAME, url)))
}

/// Warns when no caller has a token that the cloud accepts. GitLab signs its own for self-hosted
/// models only; for what it believes to be its own models it sends its licence server's
/// (contract::gitlab_client §3.1).
pub(crate) fn warn_if_unusable(reader: &mut Reader<'_>, auth: &Settings) {
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
    reader.warn(reader.fault_of(key, message).hint(Some(hint.to_owned())));
}
