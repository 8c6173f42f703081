//! The OpenMetrics text format.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::families::{Family, FamilyType, PREFIX, SeriesValue};

/// The families as text.
///
/// # Errors
/// None is expected: writing to a string does not fail.
pub(super) fn encode(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The families as a collector, which is the encoder's input.
#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                FamilyType::Counter => MetricType::Counter,
                FamilyType::Gauge => MetricType::Gauge,
                FamilyType::Histogram => MetricType::Histogram,
            };
            let unit = family.seconds.then_some(Unit::Seconds);
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for (labels, value) in &family.series {
                let mut series = metric.encode_family(labels)?;
                match (family.kind, value) {
                    (FamilyType::Counter, SeriesValue::Count(count)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(count, None)?;
                    }
                    (FamilyType::Counter, SeriesValue::Number(number)) => {
                        series.encode_counter::<NoLabelSet, _, u64>(number, None)?;
                    }
                    (_, SeriesValue::Count(count)) => series.encode_gauge(count)?,
                    (_, SeriesValue::Number(number)) => series.encode_gauge(number)?,
                    (_, SeriesValue::Distribution { sum, count, buckets }) => {
                        series.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
