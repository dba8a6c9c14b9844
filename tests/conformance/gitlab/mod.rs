//! The client side of GitLab, written from `gitlab-client.md`: what its parts send, how they read an answer,
//! what they do about a failure and what their user sees of it. Times are scaled: 20 ms stand for a second.

pub(crate) mod wire; // lines and events, as GitLab's parsers take them

/// What Rails sends with every call (§2.1), without credentials.
pub(crate) fn headers() -> Vec<(&'static str, &'static str)> {
    vec![
        ("content-type", "application/json"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3"),
        ("user-agent", "Ruby"),
        ("x-gitlab-authentication-type", "oidc"),
        ("x-request-id", "01KCORRELATION0000000000000"),
        ("x-gitlab-rails-send-start", "1795470154.123456"),
        ("x-gitlab-host-name", "gitlab.example.com"),
        ("x-gitlab-instance-id", "11111111-2222-4333-8444-555555555555"),
        ("x-gitlab-realm", "self-managed"),
        ("x-gitlab-deployment-type", "self-managed"),
        ("x-gitlab-version", "18.9.0"),
        ("x-gitlab-global-user-id", "user-of-this-instance"),
        ("x-gitlab-user-id", "1"),
        ("x-gitlab-feature-enabled-by-namespace-ids", ""),
        ("x-gitlab-feature-enablement-type", "duo_enterprise"),
        ("x-gitlab-enabled-feature-flags", ""),
        ("x-gitlab-enabled-instance-verbose-ai-logs", "false"),
        ("x-gitlab-is-team-member", "false"),
    ]
}
