//! Keys by their paths: which key a path of the file is, and which names may follow it.

use crate::config::toml::key::Key;
use crate::config::toml::keys::all;
use crate::route::Feature;

/// Returns the key of a path, or `None` when it is not a key.
pub(crate) fn find(path: &[&str]) -> Option<&'static Key> {
    all().find(|key| {
        let mut pattern = key.path.split('.');
        path.iter().all(|name| pattern.next().is_some_and(|part| matches(part, name)))
            && pattern.next().is_none()
    })
}

/// Returns the names that may follow a path, in the table's order. `{name}` is among them when any
/// name may.
pub(crate) fn children(path: &[&str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for key in all() {
        let mut pattern = key.path.split('.');
        if !path.iter().all(|name| pattern.next().is_some_and(|part| matches(part, name))) {
            continue;
        }
        match pattern.next() {
            Some("{feature}") => found.extend(Feature::all().map(Feature::name).chain(["default"])),
            Some(part) => found.push(part),
            None => {}
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|name| seen.insert(*name));
    found
}

fn matches(part: &str, name: &str) -> bool {
    match part {
        "{name}" => true,
        "{feature}" => name == "default" || Feature::parse(name).is_some(),
        _ => part == name,
    }
}

#[cfg(test)]
mod tests {
    use super::{children, find};
    use crate::config::toml::keys::all;

    #[test]
    fn keys_are_found_below_names_and_features() {
        assert_eq!(find(&["models", "any.name", "api_key"]).unwrap().path, "models.{name}.api_key");
        assert_eq!(
            find(&["features", "default", "timeouts", "idle"]).unwrap().path,
            "features.{feature}.timeouts.idle"
        );
        assert!(find(&["features", "nothing"]).is_none());
        assert!(find(&["server"]).is_none());
    }

    #[test]
    fn children_are_the_names_that_may_follow() {
        assert_eq!(children(&["admin"]), ["listen"]);
        assert_eq!(
            children(&["models", "x", "timeouts"]),
            ["connect", "first_byte", "idle", "total"]
        );
        assert!(children(&["features"]).contains(&"duo_chat"));
        assert!(children(&["server", "listen"]).is_empty());
    }

    #[test]
    fn no_key_is_listed_twice() {
        let mut paths: Vec<&str> = all().map(|key| key.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), all().count());
    }
}
