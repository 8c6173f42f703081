//! The metrics as text, in both formats that Prometheus reads.

use std::fmt;

use super::{Totals, classic, families::families, open_metrics};

/// Resource usage of the agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentUsage {
    /// CPU time, user and system, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

/// All metrics in both formats.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// OpenMetrics, version 1.0.0.
    pub open: String,
    /// Prometheus's text format, version 0.0.4.
    pub classic: String,
}

/// A format in which the metrics cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExpositionError {
    /// The OpenMetrics text format.
    #[error("OpenMetrics: {0}")]
    Open(#[from] fmt::Error),
    /// Prometheus's text format.
    #[error("Prometheus text: {0}")]
    Classic(#[from] prometheus::Error),
}

/// Writes all metrics in both formats.
///
/// # Errors
/// The encoders' own errors. None is expected: writing to a string does not fail, and no family is empty.
pub fn expose(totals: &Totals, own: AgentUsage) -> Result<Exposition, ExpositionError> {
    let families = families(totals, own);
    Ok(Exposition { classic: classic::encode(&families)?, open: open_metrics::encode(families)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmexit_core::{escape::safe, testing::nasty};

    use super::{
        super::{VmId, VmTotals},
        *,
    };

    /// Parses a quoted label value (<https://prometheus.io/docs/instrumenting/exposition_formats/>); returns the value
    /// and the text after the closing quote.
    fn parse_label(text: &str) -> Option<(String, &str)> {
        let (mut value, mut chars) = (String::new(), text.strip_prefix('"')?.chars());
        loop {
            match chars.next()? {
                '"' => return Some((value, chars.as_str())),
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    _ => return None,
                }),
                c => value.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn expose_of_any_name_keeps_it_in_quotes(name in nasty(), uuid in nasty()) {
            let id = VmId { name: name.clone(), uuid: uuid.clone(), domain: String::new() };
            let vms = [(id, VmTotals::default())].into();
            let Exposition { open, classic } =
                expose(&Totals { vms, ..Totals::default() }, AgentUsage::default()).unwrap();
            for text in [open, classic] {
                let start = "vmexit_vm_vcpus{vm=";
                let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(start)).collect();
                prop_assert_eq!(lines.len(), 1);
                let (parsed_name, rest) = parse_label(lines[0]).unwrap();
                let (parsed_uuid, rest) = parse_label(rest.strip_prefix(",uuid=").unwrap()).unwrap();
                prop_assert_eq!((parsed_name, parsed_uuid), (safe(&name), safe(&uuid)));
                prop_assert_eq!(rest, ",domain=\"\"} 0");
            }
        }
    }
}
