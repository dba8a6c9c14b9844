//! The versions a prompt answers to, and the constraints by which GitLab asks for one.
//!
//! Source: gitlab-client.md §8.1, ai-gateway-server.md §3.3. One text stands behind all of a
//! prompt's versions: they differ in the official gateway's words, not in what goes in or comes
//! out.

use std::fmt;

use semver::{Version, VersionReq};

/// What a request without a version means (also with null and `""`).
const DEFAULT: &str = "^1.0.0";

/// The versions of one prompt, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Versions(Vec<Version>);

impl Versions {
    pub(super) const fn new(versions: Vec<Version>) -> Self {
        Self(versions)
    }

    pub(super) fn answer(&self, constraint: &Constraint) -> bool {
        self.0.iter().any(|version| constraint.matches(version))
    }
}

/// `['1.0.0', '1.1.0']`, as the official gateway prints them.
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<String> = self.0.iter().map(|version| format!("'{version}'")).collect();
        write!(f, "[{}]", quoted.join(", "))
    }
}

/// `1.2.0`, `1.2.0-dev`, `^1.0.0`, `~1.2`, `>=1.0.0,<2.0.0`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Constraint {
    /// This one, pre-releases included.
    Exact(Version),
    /// Any stable one of these.
    Range(VersionReq),
}

impl Constraint {
    /// `None` when it is none. Amazon Q's prompts (`amazon_q/1.0.0`) have no text of their own
    /// here.
    pub(super) fn parse(text: Option<&str>) -> Option<Self> {
        let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(DEFAULT);
        let text = text.strip_prefix("amazon_q/").unwrap_or(text);
        let bare = text.strip_prefix("==").unwrap_or(text).trim();
        match Version::parse(bare) {
            Ok(version) => Some(Self::Exact(version)),
            // `1.2` means that one and not, as in Cargo, what is compatible with it
            Err(_) if bare.starts_with(|c: char| c.is_ascii_digit()) => {
                VersionReq::parse(&format!("={bare}")).ok().map(Self::Range)
            }
            Err(_) => VersionReq::parse(text).ok().map(Self::Range),
        }
    }

    fn matches(&self, version: &Version) -> bool {
        match self {
            Self::Exact(exact) => exact == version,
            Self::Range(range) => range.matches(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use semver::Version;

    use super::{Constraint, Versions};

    fn answers(constraint: Option<&str>) -> Option<bool> {
        let versions =
            ["1.0.0", "1.1.0-dev", "1.2.0", "2.1.0"].map(|text| Version::parse(text).unwrap());
        Constraint::parse(constraint)
            .map(|constraint| Versions::new(versions.to_vec()).answer(&constraint))
    }

    #[test]
    fn every_form_that_gitlab_sends_is_understood() {
        for text in [
            "^1.0.0",
            "1.2.0",
            "1.1.0-dev",
            "~1.2",
            ">=1.0.0,<2.0.0",
            "*",
            "==2.1.0",
            "amazon_q/1.0.0",
            "",
        ] {
            assert_eq!(answers(Some(text)), Some(true), "{text}");
        }
        assert_eq!(answers(None), Some(true));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_no_constraint_told() {
        for text in ["^9.0.0", "1.0.1", "1.1", "2.1.0-dev", "amazon_q/7.0.0", ">=1.0.1-dev,<1.2.0"]
        {
            assert_eq!(answers(Some(text)), Some(false), "{text}");
        }
        for text in ["not a version", "^", "1.x.y.z", "latest"] {
            assert_eq!(answers(Some(text)), None, "{text}");
        }
    }

    #[test]
    fn they_are_listed_as_the_official_gateway_lists_them() {
        let versions = Versions::new(vec![Version::new(1, 0, 0), Version::new(1, 1, 0)]);
        assert_eq!(versions.to_string(), "['1.0.0', '1.1.0']");
    }
}
