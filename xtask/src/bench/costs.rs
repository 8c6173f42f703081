//! From what the lab printed to what each way of watching adds to an exit.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    number,
    table::{percent, render, whole},
    ways::Way,
};

/// Nanoseconds that a way of watching must add to be taken for one: far less than any program does, and
/// far more than two measurements of the same differ by.
const LEAST_ADDED_NS: f64 = 200.0;

/// What one way of watching costs an exit, nanoseconds.
struct Cost {
    whole: f64,
    added: f64,
    /// By a command's own threads: they would be elsewhere on a machine with more CPUs than the lab's
    /// one.
    own_threads: Option<f64>,
}

/// The table; with a reference, each way's cost is also shown as a share of that one's.
pub(super) fn table(
    heading: &str,
    ways: &[Way],
    output: &str,
    reference: Option<&str>,
) -> Result<String> {
    let costs = costs(ways, output)?;
    let reference = match reference {
        Some(name) => {
            let way = ways.iter().position(|way| way.name == name);
            Some((name, costs[way.with_context(|| format!("nobody measures {name}"))?].added))
        }
        None => None,
    };
    let of_reference = reference.map(|(name, _)| format!("of {name}"));
    let mut columns = vec!["", "ns per exit", "added", "by own threads"];
    columns.extend(of_reference.as_deref());
    let rows: Vec<Vec<String>> = ways
        .iter()
        .zip(&costs)
        .map(|(way, cost)| {
            let own = cost.own_threads.map(whole).unwrap_or_default();
            let mut row = vec![way.name.clone(), whole(cost.whole), whole(cost.added), own];
            row.extend(reference.map(|(_, added)| percent(cost.added / added, 1)));
            row
        })
        .collect();
    Ok(render(heading, &columns, 1, &rows))
}

/// The cost of each way, from the lab's output; an error where one was not measured, or did not watch.
fn costs(ways: &[Way], output: &str) -> Result<Vec<Cost>> {
    let measured = sections(output);
    let mut base = None;
    ways.iter()
        .map(|way| {
            let name = &way.name;
            let line = measured.get(name.as_str());
            let line = line.with_context(|| format!("{name} was not measured"))?;
            let measured = serde_json::from_str(line).with_context(|| name.clone())?;
            cost(way, &measured, &mut base).with_context(|| format!("{name}: {line}"))
        })
        .collect()
}

/// The line after each heading.
fn sections(output: &str) -> HashMap<&str, &str> {
    let mut lines = output.lines();
    let mut sections = HashMap::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("== ") {
            sections.extend(lines.next().map(|measured| (name, measured)));
        }
    }
    sections
}

fn cost(way: &Way, measured: &Value, base: &mut Option<f64>) -> Result<Cost> {
    let exits = number(measured, "exits").context("KVM counted no exits")?;
    let whole = number(measured, "ns_per_exit").context("no exit was made")?;
    let added = whole - *base.get_or_insert(whole);
    ensure!(added > LEAST_ADDED_NS || !way.watches, "it adds nothing: it can't have watched");
    let ran = measured["check"]["runs"].as_object().is_some_and(|runs| !runs.is_empty());
    ensure!(ran || !way.ebpf, "none of its eBPF programs ran");
    ensure!(!ran || way.ebpf, "eBPF programs ran, and it has none");
    if let Some(counted) = measured["counted"].as_f64() {
        ensure!(counted >= exits, "it counted less than KVM did");
    }
    let own_threads = measured["command_cpu_ns"].as_f64().map(|ns| ns / exits);
    Ok(Cost { whole, added, own_threads })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ways::{self, PERF};

    fn some(names: &[&str]) -> Vec<Way> {
        let all = [ways::beside_others(), ways::beside_perf()].concat();
        let find = |name: &&str| all.iter().find(|way| way.name == *name).unwrap().clone();
        names.iter().map(find).collect()
    }

    const NOTHING: &str = r#"== nothing
{"ns_per_exit":40000.4,"exits":5,"command_cpu_ns":null,"check":{"runs":{}}}
"#;

    fn rows(table: &str) -> Vec<Vec<&str>> {
        table.lines().skip(3).map(|line| line.split_whitespace().collect()).collect()
    }

    #[test]
    fn everything_is_compared_with_nothing() {
        let output = NOTHING.to_owned()
            + r#"== vmexit
{"ns_per_exit":42500,"exits":5,"command_cpu_ns":2000,"check":{"runs":{"kvm_exit":{}}}}
"#;
        let table = table("", &some(&["nothing", "vmexit"]), &output, None).unwrap();
        assert_eq!(
            rows(&table),
            [vec!["nothing", "40,000", "0"], vec!["vmexit", "42,500", "2,500", "400"]]
        );
    }

    #[test]
    fn and_with_a_reference_where_there_is_one() {
        let output = NOTHING.to_owned()
            + r#"perf says this
== perf kvm stat record
{"ns_per_exit":80000.4,"exits":5,"command_cpu_ns":50,"check":{"runs":{}}}
== floor
{"ns_per_exit":42000.4,"exits":5,"command_cpu_ns":null,"check":{"runs":{"floor_exit":{}}}}
"#;
        let ways = some(&["nothing", PERF, "floor"]);
        let shown = table("", &ways, &output, Some(PERF)).unwrap();
        assert!(shown.lines().nth(2).unwrap().ends_with("of perf kvm stat record"));
        assert!(rows(&shown)[1].ends_with(&["10", "100.0", "%"]), "{shown}");
        assert_eq!(rows(&shown)[2], ["floor", "42,000", "2,000", "5.0", "%"]);
        assert!(table("", &ways[..1], &output, Some(PERF)).is_err());
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        let ways = some(&["nothing", "bcc"]);
        let table = |rest: &str| table("", &ways, &format!("{NOTHING}== bcc\n{rest}"), None);
        let good =
            r#"{"ns_per_exit":43000,"exits":5,"counted":6,"check":{"runs":{"bcc_exit":{}}}}"#;
        assert!(table(good).is_ok());
        assert!(table("").is_err());
        for (from, to) in [
            ("43000", "null"),
            ("43000", "40100"),
            ("\"exits\":5", "\"exits\":null"),
            ("\"counted\":6", "\"counted\":4"),
            ("\"bcc_exit\":{}", ""),
        ] {
            assert!(good.contains(from));
            assert!(table(&good.replace(from, to)).is_err(), "{from} as {to}");
        }
    }

    #[test]
    fn programs_of_somebody_else_are_an_error() {
        let output = NOTHING.replace("{}", r#"{"kvm_exit":{}}"#);
        assert!(table("", &some(&["nothing"]), &output, None).is_err());
    }
}
