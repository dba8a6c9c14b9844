//! "Did you mean": the nearest of some names, and the right table of a key that was written in the
//! wrong one.

use crate::config::toml::keys::all;

/// Returns the nearest of some names, or `None` when none is near enough to be a misspelling.
pub fn nearest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let distance = |name: &&str| strsim::damerau_levenshtein(&found, &name.to_lowercase());
    let best = names.into_iter().min_by_key(distance)?;
    let allowed = (best.chars().count() / 3).max(1);
    // one that continues the other is near too (`code_completion` for `code_completions_v2`)
    let is_prefix = found.len() >= 4
        && (best.starts_with(&found) || found.starts_with(best) && best.len() >= 4);
    (distance(&best) <= allowed || is_prefix).then_some(best)
}

/// Returns the full paths of the keys of this name, in words, for one in the wrong table.
pub(crate) fn elsewhere(name: &str) -> Option<String> {
    // `timeouts.total` rather than a model's own
    let is_general = |path: &&str| !path.contains('{');
    let found: Vec<&str> = all()
        .map(|key| key.path)
        .filter(is_general)
        .filter(|path| path.rsplit('.').next() == Some(name))
        .collect();
    match found.split_last() {
        Some((last, [])) => Some((*last).to_owned()),
        Some((last, rest)) => Some(format!("{} or {last}", rest.join(", "))),
        None => all()
            .map(|key| key.path)
            .find(|path| path.rsplit('.').next() == Some(name))
            .map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::{elsewhere, nearest};

    #[test]
    fn only_near_names_are_suggested() {
        let names = ["endpoint", "endpoints", "api_key", "family"];
        assert_eq!(nearest("endpont", names), Some("endpoint"));
        assert_eq!(nearest("api-key", names), Some("api_key"));
        assert_eq!(nearest("APIKEY", names), Some("api_key"));
        assert_eq!(nearest("temperature", names), None);
        assert_eq!(nearest("x", names), None);
    }

    #[test]
    fn a_misplaced_key_is_found_in_its_table() {
        assert_eq!(elsewhere("max_body").unwrap(), "limits.max_body");
        assert_eq!(elsewhere("total").unwrap(), "timeouts.total");
        assert_eq!(
            elsewhere("listen").unwrap(),
            "server.listen, admin.listen or agent_platform.listen"
        );
        assert_eq!(elsewhere("api_key").unwrap(), "models.{name}.api_key");
        assert_eq!(elsewhere("nothing"), None);
    }
}
