//! Tracing methods to compare.

/// Options of the captures to compare.
const OPTIONS: [&str; 7] = [
    "",
    "--event vmexit,ioport",
    "--event vmexit",
    "--timing 1/16",
    "--timing off",
    "--event vmexit --timing off",
    "--tracepoints classic",
];

/// Name of the cheapest method that times exits by eBPF programs.
pub(super) const FLOOR: &str = "floor";

/// A tracing method to measure.
#[derive(Clone, Debug)]
pub(super) struct TracingMethod {
    /// Name in the tables.
    pub(super) name: String,
    /// Arguments of `vmexit-bench`, as a shell takes them.
    pub(super) arguments: String,
    /// Whether it traces; the base of the comparison does not.
    pub(super) traces: bool,
    /// Whether it uses eBPF programs.
    pub(super) ebpf: bool,
}

impl TracingMethod {
    /// Returns a mode of `vmexit-bench` with eBPF programs of its own.
    fn mode(name: &str) -> Self {
        Self { name: name.to_owned(), arguments: name.to_owned(), traces: true, ebpf: true }
    }

    /// Returns the base of all comparisons, which does not trace.
    fn nothing() -> Self {
        Self { traces: false, ebpf: false, ..Self::mode("nothing") }
    }

    /// Returns the kernel's own tracer.
    fn ftrace() -> Self {
        Self { ebpf: false, ..Self::mode("ftrace") }
    }

    /// Returns another program, without eBPF.
    fn command(name: &str, command: &str) -> Self {
        Self { arguments: format!("command -- {command}"), ebpf: false, ..Self::mode(name) }
    }

    /// Returns a capture of vmexit with these options.
    fn vmexit(options: &str) -> Self {
        let name = format!("vmexit {options}");
        let command = format!("vmexit capture -q -d 1h -o /dev/null {options}");
        Self { ebpf: true, ..Self::command(name.trim_end(), command.trim_end()) }
    }

    /// Returns a trace with a threshold that no exit reaches: the cost of the comparison alone.
    fn vmexit_trace() -> Self {
        Self { ebpf: true, ..Self::command("vmexit trace", "vmexit trace --slower-than 1h") }
    }

    /// Returns captures of vmexit with each of [`OPTIONS`].
    fn vmexit_captures() -> impl Iterator<Item = Self> {
        OPTIONS.iter().map(|options| Self::vmexit(options))
    }
}

/// Returns the methods for the Intel lab: vmexit's and other tools'.
pub(super) fn beside_others() -> Vec<TracingMethod> {
    let mut methods = vec![TracingMethod::nothing()];
    methods.extend([FLOOR, "floor-classic", "bcc"].map(TracingMethod::mode));
    methods.push(TracingMethod::ftrace());
    methods.extend(["bpftrace", "raw-naive"].map(TracingMethod::mode));
    methods.extend(TracingMethod::vmexit_captures());
    methods.push(TracingMethod::vmexit_trace());
    methods
}

/// Name of the reference in the AMD lab.
pub(super) const PERF: &str = "perf kvm stat record";

/// Returns the methods for the AMD lab: vmexit's and perf's.
pub(super) fn beside_perf() -> Vec<TracingMethod> {
    let events = "kvm:kvm_exit,kvm:kvm_entry,kvm:kvm_pio";
    let mut methods = vec![
        TracingMethod::nothing(),
        TracingMethod::mode(FLOOR),
        TracingMethod::ftrace(),
        TracingMethod::command(PERF, "perf kvm stat record -a -o /dev/null"),
        TracingMethod::command("the same into a file", "perf kvm stat record -a -o /tmp/perf.data"),
        TracingMethod::command("perf record", &format!("perf record -e {events} -a -o /dev/null")),
    ];
    methods.extend(TracingMethod::vmexit_captures());
    methods
}

/// Returns the methods for this machine, each with the number of its programs that run even if `kvm_exit` never
/// fires.
pub(super) fn by_run_time() -> Vec<(TracingMethod, usize)> {
    let mut methods =
        vec![(TracingMethod::mode("empty"), 3), (TracingMethod::mode("empty-classic"), 3)];
    methods
        .extend(["", "--tracepoints classic"].map(|options| (TracingMethod::vmexit(options), 3)));
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmexit_has_name_and_arguments_of_its_options() {
        let names: Vec<String> =
            TracingMethod::vmexit_captures().map(|method| method.name).collect();
        assert_eq!(names[..2], ["vmexit", "vmexit --event vmexit,ioport"]);
        let method = TracingMethod::vmexit("--timing off");
        assert_eq!(
            method.arguments,
            "command -- vmexit capture -q -d 1h -o /dev/null --timing off"
        );
        assert!(method.ebpf);
    }

    #[test]
    fn methods_begin_with_nothing_and_have_unique_names() {
        for methods in [beside_others(), beside_perf()] {
            assert_eq!(methods[0].name, "nothing");
            let mut names: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), methods.len());
        }
        assert!(beside_perf().iter().any(|method| method.name == PERF));
    }
}
