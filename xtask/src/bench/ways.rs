//! The ways of watching that are compared.

/// vmexit's own ways to count, as options of a capture.
const OPTIONS: [&str; 7] = [
    "",
    "--event vmexit,ioport",
    "--event vmexit",
    "--timing 1/16",
    "--timing off",
    "--event vmexit --timing off",
    "--tracepoints classic",
];

/// The least that anybody pays who times exits by programs.
pub(super) const FLOOR: &str = "floor";

/// A way of watching.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// As the tables call it.
    pub(super) name: String,
    /// Arguments of `vmexit-bench`, as a shell takes them.
    pub(super) arguments: String,
    /// Whether it watches at all.
    pub(super) watches: bool,
    /// Whether it does so by eBPF programs.
    pub(super) ebpf: bool,
}

impl Way {
    /// A mode of `vmexit-bench` with programs of its own.
    fn mode(name: &str) -> Self {
        Self { name: name.to_owned(), arguments: name.to_owned(), watches: true, ebpf: true }
    }

    /// What all others are compared with.
    fn nothing() -> Self {
        Self { watches: false, ebpf: false, ..Self::mode("nothing") }
    }

    /// The kernel's own tracer.
    fn ftrace() -> Self {
        Self { ebpf: false, ..Self::mode("ftrace") }
    }

    /// Another program, without eBPF.
    fn command(name: &str, command: &str) -> Self {
        Self { arguments: format!("command -- {command}"), ebpf: false, ..Self::mode(name) }
    }

    /// A capture with these options.
    fn vmexit(options: &str) -> Self {
        let name = format!("vmexit {options}");
        let command = format!("vmexit capture -q -d 1h -o /dev/null {options}");
        Self { ebpf: true, ..Self::command(name.trim_end(), command.trim_end()) }
    }

    /// A trace for which no exit is slow enough: what it takes to look for those that are.
    fn vmexit_trace() -> Self {
        Self { ebpf: true, ..Self::command("vmexit trace", "vmexit trace --slower-than 1h") }
    }

    /// vmexit in all its ways.
    fn all_of_vmexit() -> impl Iterator<Item = Self> {
        OPTIONS.iter().map(|options| Self::vmexit(options))
    }
}

/// For the Intel lab: other tools' ways, as comparators.
pub(super) fn beside_others() -> Vec<Way> {
    let mut ways = vec![Way::nothing()];
    ways.extend([FLOOR, "floor-classic", "bcc"].map(Way::mode));
    ways.push(Way::ftrace());
    ways.extend(["bpftrace", "raw-naive"].map(Way::mode));
    ways.extend(Way::all_of_vmexit());
    ways.push(Way::vmexit_trace());
    ways
}

/// The way that vmexit is compared with in the AMD lab.
pub(super) const PERF: &str = "perf kvm stat record";

/// For the AMD lab: perf itself.
pub(super) fn beside_perf() -> Vec<Way> {
    let events = "kvm:kvm_exit,kvm:kvm_entry,kvm:kvm_pio";
    let mut ways = vec![
        Way::nothing(),
        Way::mode(FLOOR),
        Way::ftrace(),
        Way::command(PERF, "perf kvm stat record -a -o /dev/null"),
        Way::command("the same into a file", "perf kvm stat record -a -o /tmp/perf.data"),
        Way::command("perf record", &format!("perf record -e {events} -a -o /dev/null")),
    ];
    ways.extend(Way::all_of_vmexit());
    ways
}

/// For this machine, where `kvm_exit` may never fire; and how many programs of each run all the same.
pub(super) fn by_run_time() -> Vec<(Way, usize)> {
    let mut ways = vec![(Way::mode("empty"), 3), (Way::mode("empty-classic"), 3)];
    ways.extend(["", "--tracepoints classic"].map(|options| (Way::vmexit(options), 3)));
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmexit_goes_by_its_options() {
        let names: Vec<String> = Way::all_of_vmexit().map(|way| way.name).collect();
        assert_eq!(names[..2], ["vmexit", "vmexit --event vmexit,ioport"]);
        let way = Way::vmexit("--timing off");
        assert_eq!(way.arguments, "command -- vmexit capture -q -d 1h -o /dev/null --timing off");
        assert!(way.ebpf);
    }

    #[test]
    fn nothing_comes_first_and_names_differ() {
        for ways in [beside_others(), beside_perf()] {
            assert_eq!(ways[0].name, "nothing");
            let mut names: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ways.len());
        }
        assert!(beside_perf().iter().any(|way| way.name == PERF));
    }
}
