//! Cost that each tracing method adds to an exit, from the output of a lab.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    methods::{FLOOR, TracingMethod},
    number,
    table::{percent, render, times, whole},
};

/// Smallest cost that a tracing method can add, nanoseconds: far below that of any program, and far above the
/// difference between two measurements of the same method.
const LEAST_ADDED_NS: f64 = 200.0;

/// Cost of an exit with one tracing method, nanoseconds.
struct MeasuredCost {
    /// Time of an exit.
    whole: f64,
    /// Time above that of an exit without tracing.
    added: f64,
    /// CPU time of a command's own threads per exit. On a machine with more CPUs than the lab's one, they would run
    /// on another.
    own_threads: Option<f64>,
    /// Instructions of an exit by the guest's own clock, for each of [`CLOCKED`].
    instructions: [f64; 2],
}

/// Exits that the guest's clock measures: name in the measurements and name in the table.
const CLOCKED: [(&str, &str); 2] = [("pm_timer_in", "IN"), ("cpuid", "CPUID")];

/// Returns the table of all methods; with a reference, it shows each cost also as a share of the reference's.
/// `cycles` is the number of cycles of the guest's clock per instruction.
///
/// # Errors
///
/// A method was not measured, or did not trace.
pub(super) fn table(
    heading: &str,
    methods: &[TracingMethod],
    output: &str,
    reference: Option<&str>,
    cycles: f64,
) -> Result<String> {
    let costs = costs(methods, output, cycles)?;
    let find = |name: &str| {
        let method = methods.iter().position(|method| method.name == name);
        Ok::<_, anyhow::Error>(
            &costs[method.with_context(|| format!("{name} is not among the methods"))?],
        )
    };
    let reference = match reference {
        Some(name) => Some((name, find(name)?.added)),
        None => None,
    };
    let (base, floor) = (&costs[0], find(FLOOR)?);
    let of_reference = reference.map(|(name, _)| format!("of {name}"));
    let mut columns = vec!["", "ns per exit", "added", "by own threads"];
    columns.extend(of_reference.as_deref());
    for (_, name) in CLOCKED {
        columns.extend([name, "added", "of floor's"]);
    }
    let rows: Vec<Vec<String>> = methods
        .iter()
        .zip(&costs)
        .map(|(method, cost)| {
            let own = cost.own_threads.map(whole).unwrap_or_default();
            let mut row = vec![method.name.clone(), whole(cost.whole), whole(cost.added), own];
            row.extend(reference.map(|(_, added)| percent(cost.added / added, 1)));
            for clocked in 0..CLOCKED.len() {
                let added =
                    |cost: &MeasuredCost| cost.instructions[clocked] - base.instructions[clocked];
                row.extend([cost.instructions[clocked], added(cost)].map(whole));
                row.push(times(added(cost) / added(floor)));
            }
            row
        })
        .collect();
    Ok(render(heading, &columns, 1, &rows))
}

/// Returns the cost of each method.
fn costs(methods: &[TracingMethod], output: &str, cycles: f64) -> Result<Vec<MeasuredCost>> {
    let measured = sections(output);
    let mut base = None;
    methods
        .iter()
        .map(|method| {
            let name = &method.name;
            let line = measured.get(name.as_str());
            let line = line.with_context(|| format!("{name} was not measured"))?;
            let measured = serde_json::from_str(line).with_context(|| name.clone())?;
            cost(method, &measured, &mut base, cycles).with_context(|| format!("{name}: {line}"))
        })
        .collect()
}

/// Returns the line after each heading, by heading.
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

/// Returns the cost of a method; the first one sets `base`, the time of an exit without tracing.
fn cost(
    method: &TracingMethod,
    measured: &Value,
    base: &mut Option<f64>,
    cycles: f64,
) -> Result<MeasuredCost> {
    let exits = number(measured, "exits").context("KVM counted no exits")?;
    let whole = number(measured, "ns_per_exit").context("no exit was made")?;
    let added = whole - *base.get_or_insert(whole);
    ensure!(added > LEAST_ADDED_NS || !method.traces, "it adds nothing, so it did not trace");
    let ran = measured["check"]["runs"].as_object().is_some_and(|runs| !runs.is_empty());
    ensure!(ran || !method.ebpf, "none of its eBPF programs ran");
    ensure!(!ran || method.ebpf, "eBPF programs ran, and it has none");
    if let Some(counted) = measured["counted"].as_f64() {
        ensure!(counted >= exits, "it counted less than KVM did");
    }
    let own_threads = measured["command_cpu_ns"].as_f64().map(|ns| ns / exits);
    let [read, cpuid] = CLOCKED.map(|(name, _)| instructions(measured, name, cycles));
    Ok(MeasuredCost { whole, added, own_threads, instructions: [read?, cpuid?] })
}

/// Returns the instructions of an exit by the guest's clock; an error if they are not whole.
fn instructions(measured: &Value, name: &str, cycles: f64) -> Result<f64> {
    let smallest = number(&measured["smallest_cycles"], name).context("the guest printed none")?;
    let instructions = smallest / cycles;
    ensure!(instructions.fract() == 0.0, "{smallest} cycles of {name} are not whole instructions");
    Ok(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::methods::{self, PERF};

    fn methods_named(names: &[&str]) -> Vec<TracingMethod> {
        let all = [methods::beside_others(), methods::beside_perf()].concat();
        let find = |name: &&str| all.iter().find(|method| method.name == *name).unwrap().clone();
        names.iter().map(find).collect()
    }

    const NOTHING: &str = r#"== nothing
{"ns_per_exit":40000.4,"exits":5,"command_cpu_ns":null,"check":{"runs":{}},"smallest_cycles":{"pm_timer_in":6000,"cpuid":1000}}
"#;

    const FLOOR: &str = r#"== floor
{"ns_per_exit":42000.4,"exits":5,"command_cpu_ns":null,"check":{"runs":{"floor_exit":{}}},"smallest_cycles":{"pm_timer_in":6300,"cpuid":1200}}
"#;

    fn table(methods: &[TracingMethod], output: &str, reference: Option<&str>) -> Result<String> {
        super::table("", methods, output, reference, 1.0)
    }

    fn rows(table: &str) -> Vec<Vec<&str>> {
        table.lines().skip(3).map(|line| line.split_whitespace().collect()).collect()
    }

    #[test]
    fn table_compares_with_nothing_and_floor() {
        let output = [NOTHING, FLOOR].concat()
            + r#"== vmexit
{"ns_per_exit":42500,"exits":5,"command_cpu_ns":2000,"check":{"runs":{"kvm_exit":{}}},"smallest_cycles":{"pm_timer_in":6660,"cpuid":1300}}
"#;
        let table = table(&methods_named(&["nothing", "floor", "vmexit"]), &output, None).unwrap();
        let rows = rows(&table);
        let clock = ["6,000", "0", "0.00", "x", "1,000", "0", "0.00", "x"];
        assert_eq!(rows[0], [&["nothing", "40,000", "0"], &clock[..]].concat());
        assert!(rows[1].ends_with(&["6,300", "300", "1.00", "x", "1,200", "200", "1.00", "x"]));
        let clock = ["6,660", "660", "2.20", "x", "1,300", "300", "1.50", "x"];
        assert_eq!(rows[2], [&["vmexit", "42,500", "2,500", "400"], &clock[..]].concat());
    }

    #[test]
    fn table_with_reference_shows_shares_of_it() {
        let output = [NOTHING, "perf says this\n", FLOOR].concat()
            + r#"== perf kvm stat record
{"ns_per_exit":80000.4,"exits":5,"command_cpu_ns":50,"check":{"runs":{}},"smallest_cycles":{"pm_timer_in":7500,"cpuid":1000}}
"#;
        let methods = methods_named(&["nothing", PERF, "floor"]);
        let shown = table(&methods, &output, Some(PERF)).unwrap();
        assert!(shown.lines().nth(2).unwrap().contains(" of perf kvm stat record "), "{shown}");
        assert_eq!(
            rows(&shown)[1][5..12],
            ["40,000", "10", "100.0", "%", "7,500", "1,500", "5.00"]
        );
        assert_eq!(rows(&shown)[2][..5], ["floor", "42,000", "2,000", "5.0", "%"]);
        assert!(table(&methods_named(&["nothing", "floor"]), &output, Some(PERF)).is_err());
        assert!(table(&methods[..2], &output, Some(PERF)).is_err(), "the floor is not measured");
    }

    #[test]
    fn table_converts_cycles_to_whole_instructions() {
        let output = [NOTHING, FLOOR].concat();
        let methods = methods_named(&["nothing", "floor"]);
        let shown = |cycles| super::table("", &methods, &output, None, cycles);
        assert!(rows(&shown(4.0).unwrap())[1].ends_with(&["300", "50", "1.00", "x"]));
        assert!(shown(8.0).is_err(), "6,300 is no multiple of 8");
    }

    #[test]
    fn table_of_missing_measurement_is_an_error() {
        let methods = methods_named(&["nothing", "floor", "bcc"]);
        let table =
            |rest: &str| table(&methods, &[NOTHING, FLOOR, "== bcc\n", rest].concat(), None);
        let good = r#"{"ns_per_exit":43000,"exits":5,"counted":6,"check":{"runs":{"bcc_exit":{}}},"smallest_cycles":{"pm_timer_in":6500,"cpuid":1500}}"#;
        assert!(table(good).is_ok());
        assert!(table("").is_err());
        for (from, to) in [
            ("43000", "null"),
            ("43000", "40100"),
            ("\"exits\":5", "\"exits\":null"),
            ("\"counted\":6", "\"counted\":4"),
            ("\"bcc_exit\":{}", ""),
            ("6500", "null"),
            ("\"smallest_cycles\"", "\"cycles\""),
        ] {
            assert!(good.contains(from));
            assert!(table(&good.replace(from, to)).is_err(), "{from} as {to}");
        }
    }

    #[test]
    fn table_with_foreign_programs_is_an_error() {
        let methods = methods_named(&["nothing", "floor"]);
        assert!(table(&methods, &[NOTHING, FLOOR].concat(), None).is_ok());
        let output = NOTHING.replace("\"runs\":{}", r#""runs":{"kvm_exit":{}}"#);
        assert!(table(&methods, &(output + FLOOR), None).is_err());
    }
}
