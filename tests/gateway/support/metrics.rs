//! `/metrics` as numbers that can be looked up by their labels.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) text: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Parses the exposition format. A malformed line fails the test.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { text: text.to_owned(), samples: lines.map(sample).collect() }
    }

    /// Returns the sum of every series of this name that has these labels; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).sum()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let has = |have: &BTreeMap<String, String>| {
            labels.iter().all(|(k, v)| have.get(*k).is_some_and(|h| h == v))
        };
        self.samples
            .iter()
            .filter(move |(n, have, _)| n == name && has(have))
            .map(|(_, _, value)| *value)
    }

    /// Whether series of that name with these labels exist, all of them at 0.
    pub(crate) fn is_zero(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let mut values = self.matching(name, labels).peekable();
        values.peek().is_some() && values.all(|value| value == 0.0)
    }

    /// Returns the values of a label in a family.
    pub(crate) fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let family = self.samples.iter().filter(|(n, _, _)| n == name);
        family.filter_map(|(_, labels, _)| labels.get(label).map(String::as_str)).collect()
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').unwrap();
    let labels = labels.split_terminator("\",").filter_map(|pair| pair.split_once("=\""));
    let labels = labels
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect();
    (name.to_owned(), labels, value.parse().unwrap())
}
