//! Counts and quantiles for `/status`, read from the metrics as the registry gathers them: one
//! source, so that the page and Prometheus never disagree.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily};

/// The series of one gathered family; none while nothing has been counted.
#[derive(Clone, Copy)]
pub(super) struct Family<'a> {
    series: &'a [Metric],
}

impl<'a> Family<'a> {
    /// Returns the family with that name.
    pub(super) fn of(families: &'a [MetricFamily], name: &str) -> Self {
        let family = families.iter().find(|family| family.name() == name);
        Self { series: family.map_or(&[], MetricFamily::get_metric) }
    }

    /// Returns the series whose label has this value.
    pub(super) fn with(self, label: &'a str, value: &'a str) -> impl Iterator<Item = &'a Metric> {
        self.series.iter().filter(move |metric| label_of(metric, label) == value)
    }

    /// Returns all series.
    pub(super) fn all(self) -> impl Iterator<Item = &'a Metric> {
        self.series.iter()
    }
}

/// Returns the value of a label; empty if the series has no such label.
pub(super) fn label_of<'a>(metric: &'a Metric, label: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value())
}

/// Returns the value of a counter or a gauge as an integer; a negative gauge is 0.
pub(super) fn count(metric: &Metric) -> u64 {
    // one of the two is its default, zero
    (metric.get_counter().get_value() + metric.get_gauge().get_value()) as u64
}

/// Returns the sum of these series.
pub(super) fn sum<'a>(metrics: impl Iterator<Item = &'a Metric>) -> u64 {
    metrics.map(count).sum()
}

/// Returns the sum of these series for each value of a label.
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

/// The sum of histograms with the same bounds.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// Upper bound in seconds, and the number of observations that do not exceed it; ascending.
    cumulative: Vec<(f64, u64)>,
    total: u64,
}

impl Buckets {
    /// Returns the sum of these histograms.
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

    /// Returns the cumulative counts; the last one is all observations (the bucket without a
    /// bound).
    pub(super) fn counts(&self) -> Vec<u64> {
        self.cumulative.iter().map(|(_, count)| *count).chain([self.total]).collect()
    }

    /// Returns the bounds in seconds.
    pub(super) fn bounds(&self) -> Vec<f64> {
        self.cumulative.iter().map(|(bound, _)| *bound).collect()
    }

    /// Estimates the quantile in milliseconds as Prometheus does: linear within the bucket, and the
    /// last bound for observations beyond it. `None` before the first observation.
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

/// Rounds to a tenth of a millisecond: an estimate is not more precise than that.
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
