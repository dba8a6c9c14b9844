//! Metric families whose labels are structs. The `prometheus` crate takes label values as strings
//! by position; here the positions are written once, by the struct that `label_sets!` declares.
//!
//! `prometheus-client` has typed families of its own, but writes OpenMetrics: another text than the
//! one that dashboards scrape today (`# EOF`, help with a full stop, labels in another order).

use std::marker::PhantomData;
use std::sync::Arc;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// The value of one label.
pub trait LabelValue {
    /// Returns the value as text.
    fn text(&self) -> &str;
}

impl LabelValue for &'static str {
    fn text(&self) -> &str {
        self
    }
}

impl LabelValue for Arc<str> {
    fn text(&self) -> &str {
        self
    }
}

/// The labels of one series, in the order of their names. `label_sets!` implements it.
pub trait Labels {
    /// The names of the labels.
    const NAMES: &'static [&'static str];

    /// Calls `read` with the values of the labels.
    fn with_values<R>(&self, read: impl FnOnce(&[&str]) -> R) -> R;
}

/// Declares structs of labels: a field is a label of the same name.
macro_rules! label_sets {
    ($($(#[$doc:meta])* $name:ident { $($label:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name {
            $(#[doc = concat!("The `", stringify!($label), "` label.")] pub $label: $type,)*
        }

        impl $crate::telemetry::Labels for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($label)),*];

            fn with_values<R>(&self, read: impl FnOnce(&[&str]) -> R) -> R {
                read(&[$($crate::telemetry::LabelValue::text(&self.$label)),*])
            }
        }
    )*};
}

/// Declares an enum of label values, each with its text.
macro_rules! label_values {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Returns the label value.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl $crate::telemetry::LabelValue for $name {
            fn text(&self) -> &str {
                self.label()
            }
        }
    )*};
}

pub(super) use {label_sets, label_values};

/// The series of one metric name, by their labels `L`.
#[derive(Clone, Debug)]
pub struct Family<L, V> {
    series: V,
    labels: PhantomData<fn(L)>,
}

/// Counters with labels.
pub type Counters<L> = Family<L, IntCounterVec>;
/// Gauges with labels.
pub type Gauges<L> = Family<L, IntGaugeVec>;
/// Histograms with labels.
pub type Histograms<L> = Family<L, HistogramVec>;

impl<L: Labels, B: MetricVecBuilder> Family<L, MetricVec<B>> {
    /// Returns the handle of a series, creating it at 0 if it does not exist.
    pub fn get(&self, labels: &L) -> B::M {
        labels.with_values(|values| self.series.with_label_values(values))
    }

    /// Removes a series from the exposition. Handles of it stay valid but are no longer exported.
    pub fn remove(&self, labels: &L) {
        // The only error is that there is no such series.
        let _ = labels.with_values(|values| self.series.remove_label_values(values));
    }
}

/// One row of the table of metrics, without its type.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// The name without its prefix, `weir_`.
    pub(super) name: &'static str,
    /// The help text.
    pub(super) help: &'static str,
    /// Upper bounds of a histogram's buckets, in seconds; empty for other types.
    pub(super) buckets: &'static [f64],
}

impl Row {
    fn opts(self) -> Opts {
        Opts::new(self.name, self.help).namespace("weir")
    }
}

/// A type of metric that a row can declare.
pub(super) trait Declared: Sized {
    /// Registers the metric of a row. Fails when its name is taken or malformed.
    fn register(registry: &Registry, row: Row) -> Result<Self, prometheus::Error>;
}

impl Declared for IntCounter {
    fn register(registry: &Registry, row: Row) -> Result<Self, prometheus::Error> {
        registered(registry, Self::with_opts(row.opts())?)
    }
}

impl Declared for IntGauge {
    fn register(registry: &Registry, row: Row) -> Result<Self, prometheus::Error> {
        registered(registry, Self::with_opts(row.opts())?)
    }
}

impl<L: Labels> Declared for Counters<L> {
    fn register(registry: &Registry, row: Row) -> Result<Self, prometheus::Error> {
        family(registry, IntCounterVec::new(row.opts(), L::NAMES)?)
    }
}

impl<L: Labels> Declared for Gauges<L> {
    fn register(registry: &Registry, row: Row) -> Result<Self, prometheus::Error> {
        family(registry, IntGaugeVec::new(row.opts(), L::NAMES)?)
    }
}

impl<L: Labels> Declared for Histograms<L> {
    fn register(registry: &Registry, row: Row) -> Result<Self, prometheus::Error> {
        let opts = HistogramOpts::from(row.opts()).buckets(row.buckets.to_vec());
        family(registry, HistogramVec::new(opts, L::NAMES)?)
    }
}

fn family<L, V: Collector + Clone + 'static>(
    registry: &Registry,
    series: V,
) -> Result<Family<L, V>, prometheus::Error> {
    Ok(Family { series: registered(registry, series)?, labels: PhantomData })
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
