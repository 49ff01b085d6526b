//! Writes one family after the other.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::meter::Distribution;

/// Microseconds of a second.
const MICROSECONDS: f64 = 1e6;

/// The page under construction. A family without a value is announced all the same.
pub(super) struct Page<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl<'e> Page<'e> {
    pub(super) const fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self { encoder }
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.encoder.encode_descriptor(name, help, None, kind)?)
    }

    /// A gauge; without a value where it is not known.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: Option<u64>) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |family| {
            value.map_or(Ok(()), |value| family.encode_gauge(&value))
        })
    }

    /// A gauge of seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |family| {
            value.map_or(Ok(()), |value| family.encode_gauge(&value))
        })
    }

    /// Gauges, told apart by labels.
    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |family| {
            values
                .into_iter()
                .try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    /// Gauges of seconds, told apart by labels.
    pub(super) fn seconds_each<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |family| {
            values
                .into_iter()
                .try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    /// A counter.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: Option<u64>) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |family| {
            value.map_or(Ok(()), |value| family.encode_counter::<NoLabelSet, _, u64>(&value, None))
        })
    }

    /// Counters, told apart by labels.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |family| {
            values.into_iter().try_for_each(|(labels, value)| {
                let mut counter = family.encode_family(&labels)?;
                counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
            })
        })
    }

    /// A histogram of numbers of things.
    pub(super) fn sizes<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: Option<&Distribution<N>>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, |family| {
            values.map_or(Ok(()), |values| histogram(family, values, 1.0))
        })
    }

    /// A histogram of times.
    pub(super) fn times<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: Option<&Distribution<N>>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, |family| {
            values.map_or(Ok(()), |values| histogram(family, values, MICROSECONDS))
        })
    }

    /// Histograms of times, told apart by labels.
    pub(super) fn times_each<L: EncodeLabelSet, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, Distribution<N>)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, |family| {
            values.into_iter().try_for_each(|(labels, values)| {
                histogram(&mut family.encode_family(&labels)?, &values, MICROSECONDS)
            })
        })
    }
}

/// `unit`: how many of the counted ones are one of those shown.
fn histogram<const N: usize>(
    family: &mut MetricEncoder<'_>,
    values: &Distribution<N>,
    unit: f64,
) -> fmt::Result {
    let bounds = values.bounds.iter().map(|bound| number(*bound) / unit);
    let mut buckets: Vec<(f64, u64)> = bounds.zip(values.counts).collect();
    buckets.push((f64::INFINITY, values.above));
    let sum = number(values.sum) / unit;
    family.encode_histogram::<NoLabelSet>(sum, values.count(), &buckets, None)
}

/// Beyond 2^53 the last digits go.
#[expect(clippy::cast_precision_loss, reason = "a metric needs no more than 53 bits")]
pub(super) const fn number(value: u64) -> f64 {
    value as f64
}
