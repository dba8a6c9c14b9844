//! Counts and quantiles for `/status`, read from the metrics as the registry gathers them: one
//! source, so that the page and Prometheus never disagree.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily};

/// One gathered family; empty where nothing has been counted yet.
#[derive(Clone, Copy)]
pub(super) struct Family<'a>(&'a [Metric]);

impl<'a> Family<'a> {
    /// The family of that name, among the gathered.
    pub(super) fn of(families: &'a [MetricFamily], name: &str) -> Self {
        Self(
            families
                .iter()
                .find(|family| family.name() == name)
                .map_or(&[], MetricFamily::get_metric),
        )
    }

    /// The series whose label has this value.
    pub(super) fn with(self, label: &'a str, value: &'a str) -> impl Iterator<Item = &'a Metric> {
        self.0.iter().filter(move |metric| label_of(metric, label) == value)
    }

    /// All series.
    pub(super) fn all(self) -> impl Iterator<Item = &'a Metric> {
        self.0.iter()
    }
}

/// The value of a label; empty where there is no such label.
pub(super) fn label_of<'a>(metric: &'a Metric, label: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value())
}

/// What a counter or a gauge says, as a whole number; a gauge below zero is zero.
pub(super) fn count(metric: &Metric) -> u64 {
    // one of the two is its default, zero
    (metric.get_counter().get_value() + metric.get_gauge().get_value()) as u64
}

/// The sum of these series.
pub(super) fn sum<'a>(metrics: impl Iterator<Item = &'a Metric>) -> u64 {
    metrics.map(count).sum()
}

/// The sum of these series for each value of a label.
pub(super) fn sum_by<'a>(
    metrics: impl Iterator<Item = &'a Metric>,
    label: &str,
) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    for metric in metrics {
        *sums.entry(label_of(metric, label)).or_default() += count(metric);
    }
    sums
}

/// Several histograms of the same bounds, added up.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// Upper bound in seconds, and how many observations were at most that; ascending.
    cumulative: Vec<(f64, u64)>,
    total: u64,
}

impl Buckets {
    /// Adds these histograms up.
    pub(super) fn merge<'a>(metrics: impl Iterator<Item = &'a Metric>) -> Self {
        let mut merged = Self::default();
        for histogram in metrics.map(Metric::get_histogram) {
            merged.total += histogram.get_sample_count();
            let buckets = histogram.get_bucket();
            merged.cumulative.resize(buckets.len(), (0.0, 0));
            for (sum, bucket) in merged.cumulative.iter_mut().zip(buckets) {
                *sum = (bucket.upper_bound(), sum.1 + bucket.cumulative_count());
            }
        }
        merged
    }

    /// The counts alone, with all observations last (the bucket without a bound).
    pub(super) fn counts(&self) -> Vec<u64> {
        self.cumulative.iter().map(|(_, count)| *count).chain([self.total]).collect()
    }

    /// The bounds alone, in seconds.
    pub(super) fn bounds(&self) -> Vec<f64> {
        self.cumulative.iter().map(|(bound, _)| *bound).collect()
    }

    /// An estimate of the quantile in milliseconds, as Prometheus makes it: linear within the
    /// bucket, and the last bound for what lies beyond it. None before the first observation.
    pub(super) fn quantile_ms(&self, q: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = q * self.total as f64;
        let (mut lower, mut below) = (0.0, 0);
        for &(bound, count) in &self.cumulative {
            if count as f64 >= rank && count > below {
                let share = (rank - below as f64) / (count - below) as f64;
                return Some(round(1000.0 * (lower + (bound - lower) * share)));
            }
            (lower, below) = (bound, count);
        }
        Some(round(1000.0 * lower))
    }
}

/// To a tenth of a millisecond: an estimate has no more digits than that.
fn round(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector as _;
    use prometheus::{HistogramOpts, HistogramVec};

    use super::{Buckets, Family, sum_by};

    fn seconds() -> HistogramVec {
        let opts = HistogramOpts::new("seconds", "help").buckets(vec![0.1, 0.2, 1.0]);
        HistogramVec::new(opts, &["model", "feature"]).unwrap()
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let seconds = seconds();
        let chat = seconds.with_label_values(&["a", "chat"]);
        (0..50).for_each(|_| chat.observe(0.05));
        let code = seconds.with_label_values(&["a", "code"]);
        (0..50).for_each(|_| code.observe(0.15));
        seconds.with_label_values(&["b", "code"]).observe(5.0);
        let families = seconds.collect();
        let of = |model| Buckets::merge(Family::of(&families, "seconds").with("model", model));
        assert_eq!(of("a").quantile_ms(0.5), Some(100.0));
        assert_eq!(of("a").quantile_ms(0.75), Some(150.0));
        assert_eq!(of("a").counts(), [50, 100, 100, 100]);
        assert_eq!(of("b").quantile_ms(0.5), Some(1000.0), "beyond the last bound");
        assert_eq!(of("c").quantile_ms(0.5), None);
    }

    #[test]
    fn sums_by_label() {
        let opts = prometheus::Opts::new("total", "help");
        let total = prometheus::IntCounterVec::new(opts, &["model", "outcome"]).unwrap();
        total.with_label_values(&["a", "ok"]).inc_by(3);
        total.with_label_values(&["b", "ok"]).inc_by(4);
        total.with_label_values(&["b", "timeout"]).inc();
        let families = total.collect();
        let sums = sum_by(Family::of(&families, "total").all(), "outcome");
        assert_eq!(sums.into_iter().collect::<Vec<_>>(), [("ok", 7), ("timeout", 1)]);
        assert_eq!(sum_by(Family::of(&families, "absent").all(), "outcome").len(), 0);
    }
}
