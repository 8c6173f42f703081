//! Prometheus's text format, for clients that do not request OpenMetrics. The family of a counter has the name of its
//! samples, and families have no unit.

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::families::{Family, FamilyType, PREFIX, SeriesValue};

/// The families as text, without those that have no series.
///
/// # Errors
/// A family that the encoder rejects; none is expected.
pub(super) fn encode(families: &[Family]) -> Result<String, prometheus::Error> {
    let families: Vec<MetricFamily> =
        families.iter().filter(|family| !family.series.is_empty()).map(encoded).collect();
    TextEncoder::new().encode_to_string(&families)
}

fn encoded(family: &Family) -> MetricFamily {
    let unit = if family.seconds { "_seconds" } else { "" };
    let (total, kind) = match family.kind {
        FamilyType::Counter => ("_total", MetricType::COUNTER),
        FamilyType::Gauge => ("", MetricType::GAUGE),
        FamilyType::Histogram => ("", MetricType::HISTOGRAM),
    };
    let mut out = MetricFamily::default();
    out.set_name(format!("{PREFIX}_{}{unit}{total}", family.name));
    out.set_help(format!("{}.", family.help));
    out.set_field_type(kind);
    out.set_metric(
        family.series.iter().map(|(labels, value)| metric(family.kind, labels, value)).collect(),
    );
    out
}

fn metric(kind: FamilyType, labels: &[(&'static str, String)], value: &SeriesValue) -> Metric {
    let pair = |(name, value): &(&'static str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    };
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    let number = match value {
        SeriesValue::Count(count) => *count as f64,
        SeriesValue::Number(number) => *number,
        SeriesValue::Distribution { sum, count, buckets } => {
            metric.set_histogram(histogram(*sum, *count, buckets));
            return metric;
        }
    };
    if kind == FamilyType::Counter {
        let mut counter = Counter::default();
        counter.set_value(number);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(number);
        metric.set_gauge(gauge);
    }
    metric
}

/// A histogram with cumulative buckets. The encoder adds the infinite one.
fn histogram(sum: f64, count: u64, buckets: &[(f64, u64)]) -> Histogram {
    let mut histogram = Histogram::default();
    let cumulative = buckets.iter().scan(0, |all, &(bound, count)| {
        *all += count;
        Some((bound, *all))
    });
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    histogram.set_bucket(cumulative.filter(|(bound, _)| bound.is_finite()).map(bucket).collect());
    histogram.set_sample_sum(sum);
    histogram.set_sample_count(count);
    histogram
}
