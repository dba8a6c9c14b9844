//! The versions of a prompt, and the constraints by which GitLab selects one.
//!
//! Source: contract::gitlab_client §8.1, contract::ai_gateway_server §3.3. All versions of a prompt
//! share one text: they differ in the official gateway's wording, not in inputs or outputs.

use std::fmt;

use semver::{Version, VersionReq};

/// The constraint of a request without a version (also with null and `""`).
const DEFAULT: &str = "^1.0.0";

/// The versions of one prompt, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Versions(Vec<Version>);

impl Versions {
    pub(super) const fn new(versions: Vec<Version>) -> Self {
        Self(versions)
    }

    pub(super) fn any_matches(&self, constraint: &Constraint) -> bool {
        self.0.iter().any(|version| constraint.matches(version))
    }
}

/// Writes `['1.0.0', '1.1.0']`, as the official gateway prints them.
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<String> = self.0.iter().map(|version| format!("'{version}'")).collect();
        write!(f, "[{}]", quoted.join(", "))
    }
}

/// A constraint: `1.2.0`, `1.2.0-dev`, `^1.0.0`, `~1.2`, `>=1.0.0,<2.0.0`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Constraint {
    /// This version only, pre-releases included.
    Exact(Version),
    /// Any stable version of this range.
    Range(VersionReq),
}

impl Constraint {
    /// Parses a constraint; `None` when it is invalid. Amazon Q's prompts (`amazon_q/1.0.0`) have
    /// no text of their own here.
    pub(super) fn parse(text: Option<&str>) -> Option<Self> {
        let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(DEFAULT);
        let text = text.strip_prefix("amazon_q/").unwrap_or(text);
        let bare = text.strip_prefix("==").unwrap_or(text).trim();
        match Version::parse(bare) {
            Ok(version) => Some(Self::Exact(version)),
            // `1.2` matches that version only and not, as in Cargo, every compatible one
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

    fn matches(constraint: Option<&str>) -> Option<bool> {
        let versions =
            ["1.0.0", "1.1.0-dev", "1.2.0", "2.1.0"].map(|text| Version::parse(text).unwrap());
        Constraint::parse(constraint)
            .map(|constraint| Versions::new(versions.to_vec()).any_matches(&constraint))
    }

    #[test]
    fn every_form_that_gitlab_sends_parses() {
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
            assert_eq!(matches(Some(text)), Some(true), "{text}");
        }
        assert_eq!(matches(None), Some(true));
    }

    #[test]
    fn versions_without_a_match_and_invalid_constraints_differ() {
        for text in ["^9.0.0", "1.0.1", "1.1", "2.1.0-dev", "amazon_q/7.0.0", ">=1.0.1-dev,<1.2.0"]
        {
            assert_eq!(matches(Some(text)), Some(false), "{text}");
        }
        for text in ["not a version", "^", "1.x.y.z", "latest"] {
            assert_eq!(matches(Some(text)), None, "{text}");
        }
    }

    #[test]
    fn the_list_has_the_official_gateways_format() {
        let versions = Versions::new(vec![Version::new(1, 0, 0), Version::new(1, 1, 0)]);
        assert_eq!(versions.to_string(), "['1.0.0', '1.1.0']");
    }
}
