//! "Did you mean": the nearest of some names, and where a key that stands in the wrong table
//! belongs.

use crate::config::toml::keys::all;

/// The nearest of some names, if one is near enough to be meant.
pub fn nearest<'a>(said: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let said = said.to_lowercase();
    let near = |name: &&str| strsim::damerau_levenshtein(&said, &name.to_lowercase());
    let best = names.into_iter().min_by_key(near)?;
    let allowed = (best.chars().count() / 3).max(1);
    // a word that goes on (`code_completion` for `code_completions_v2`) is meant too
    let begins =
        said.len() >= 4 && (best.starts_with(&said) || said.starts_with(best) && best.len() >= 4);
    (near(&best) <= allowed || begins).then_some(best)
}

/// Where else a key of this name is, for one that stands in the wrong table.
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
    fn suggests_only_what_may_be_meant() {
        let names = ["endpoint", "endpoints", "api_key", "family"];
        assert_eq!(nearest("endpont", names), Some("endpoint"));
        assert_eq!(nearest("api-key", names), Some("api_key"));
        assert_eq!(nearest("APIKEY", names), Some("api_key"));
        assert_eq!(nearest("temperature", names), None);
        assert_eq!(nearest("x", names), None);
    }

    #[test]
    fn knows_where_a_misplaced_key_belongs() {
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
