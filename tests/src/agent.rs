//! The program under test, run as users run it: by its command line.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    guest::{BareGuest, Expected, PortDirection},
    hist_triggers::AccessCounts,
};

/// Path of the agent: that in `VMEXIT`, which `cargo xtask test` sets, or the one beside the tests.
///
/// # Errors
///
/// When there is no file at that path.
pub fn program() -> Result<PathBuf> {
    let path = match env::var_os("VMEXIT") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = env::current_exe().context("where is this test?")?;
            let profile = test.ancestors().nth(2).context("a test is in target/PROFILE/deps")?;
            profile.join("vmexit")
        }
    };
    ensure!(path.is_file(), "{} is not there: run `cargo xtask test`", path.display());
    Ok(path)
}

/// Command that runs the agent with these arguments.
///
/// # Errors
///
/// See [`program`].
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.args(arguments);
    Ok(command)
}

/// A capture that runs in the background, with all its programs attached.
pub struct RunningCapture {
    child: Child,
}

/// Number of links of an agent with all events. `vmexit doctor` lists the tracepoints.
pub const LINKS: usize = 13;

impl RunningCapture {
    /// Starts a capture and waits until all its programs are attached.
    ///
    /// # Errors
    ///
    /// When the capture ends early, or has not attached within 30 s.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = command(&["capture", "--quiet"])?;
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut capture = Self { child: command.spawn().context("start vmexit")? };
        let deadline = Instant::now() + Duration::from_secs(30);
        while capture.links() < LINKS {
            if let Some(status) = capture.child.try_wait()? {
                let mut said = String::new();
                if let Some(stderr) = &mut capture.child.stderr {
                    stderr.read_to_string(&mut said)?;
                }
                bail!("vmexit ended with {status} before it was attached: {said}");
            }
            ensure!(Instant::now() < deadline, "vmexit did not attach within 30 s");
            sleep(Duration::from_millis(20));
        }
        // The first snapshot follows the last link.
        sleep(Duration::from_millis(200));
        Ok(capture)
    }

    /// Number of links to tracepoints that the process holds (`Documentation/filesystems/proc.rst`, fdinfo).
    fn links(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).into_iter().flatten();
        fds.flatten()
            .filter(|fd| fs::read_to_string(fd.path()).is_ok_and(|text| text.contains("link_type")))
            .count()
    }

    /// Process ID of the capture.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the capture a signal by name, such as `INT`.
    ///
    /// # Errors
    ///
    /// When `kill` fails.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().context("run kill")?;
        ensure!(status.success(), "kill -s {name} {pid} failed");
        Ok(())
    }

    /// Waits for the end of the capture and returns its output.
    ///
    /// # Errors
    ///
    /// When the wait fails.
    pub fn output(self) -> Result<Output> {
        self.child.wait_with_output().context("wait for vmexit")
    }

    /// Ends the capture by SIGINT, as ctrl-c does, and returns its JSON report.
    ///
    /// # Errors
    ///
    /// When the capture fails or its output is not JSON.
    pub fn report(self) -> Result<JsonReport> {
        self.signal("INT")?;
        JsonReport::of(&self.output()?)
    }
}

/// Names of the detail tables.
const DETAILS: [&str; 7] = ["ioport", "mmio", "msr", "cpuid", "hypercall", "fault", "userspace"];

/// A JSON report with access by name. A missing field is an error, so that no test passes because the figure it
/// tests is absent.
#[derive(Debug)]
pub struct JsonReport(Value);

impl JsonReport {
    /// Report on the standard output of a run.
    ///
    /// # Errors
    ///
    /// When the run failed or its output is not JSON.
    pub fn of(output: &Output) -> Result<Self> {
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vmexit ended with {}: {said}", output.status);
        Self::parse(&output.stdout)
    }

    /// Report from JSON.
    ///
    /// # Errors
    ///
    /// When the text is not JSON.
    pub fn parse(json: &[u8]) -> Result<Self> {
        Ok(Self(serde_json::from_slice(json).context("the report is not JSON")?))
    }

    /// String at a JSON pointer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn text(&self, pointer: &str) -> Result<&str> {
        let value = self.0.pointer(pointer).and_then(Value::as_str);
        value.with_context(|| format!("the report has no text at {pointer}"))
    }

    /// Number at a JSON pointer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn number(&self, pointer: &str) -> Result<f64> {
        let value = self.0.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("the report has no number at {pointer}"))
    }

    /// Unsigned integer at a JSON pointer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn count(&self, pointer: &str) -> Result<u64> {
        let value = self.0.pointer(pointer).and_then(Value::as_u64);
        value.with_context(|| format!("the report has no count at {pointer}"))
    }

    /// Rows of the VM's exit reasons.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn exits(&self, vm: &str) -> Result<Vec<JsonRow<'_>>> {
        let rows = self.vm(vm)?["exits"].as_array().context("the VM has no exits")?;
        Ok(rows.iter().map(JsonRow).collect())
    }

    /// Number of the VM's exits with one reason; 0 without a row.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn exits_for(&self, vm: &str, reason: &str) -> Result<u64> {
        let exits = self.exits(vm)?;
        exits.iter().find(|row| row.reason() == Some(reason)).map_or(Ok(0), JsonRow::samples)
    }

    /// Demands that the VM's series over time adds up to its exits, reason by reason.
    ///
    /// # Errors
    ///
    /// When it does not, or a field is missing.
    pub fn ensure_series(&self, vm: &str) -> Result<()> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        let steps = self.vm(vm)?["series"].as_array().context("the VM has no series")?;
        for part in steps.iter().filter_map(|step| step["parts"].as_array()).flatten() {
            let name = part["name"].as_str().context("a part has no name")?;
            *sums.entry(name).or_default() += JsonRow(part).samples()?;
        }
        let exits = self.exits(vm)?;
        let exits: BTreeMap<&str, u64> = exits
            .iter()
            .map(|row| Ok((row.reason().context("no reason")?, row.samples()?)))
            .collect::<Result<_>>()?;
        ensure!(sums == exits, "{} steps: {sums:?}, not {exits:?}", steps.len());
        Ok(())
    }

    /// Row of one port and direction.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn port(
        &self,
        vm: &str,
        port: u16,
        direction: PortDirection,
    ) -> Result<Option<JsonRow<'_>>> {
        let direction = match direction {
            PortDirection::In => "in",
            PortDirection::Out => "out",
        };
        self.detail(vm, "ioport", port.into(), Some(direction))
    }

    /// Row with this number and direction in the table of an event.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn detail(
        &self,
        vm: &str,
        event: &str,
        number: u64,
        direction: Option<&str>,
    ) -> Result<Option<JsonRow<'_>>> {
        let rows = self.details(vm, event)?;
        Ok(rows
            .into_iter()
            .find(|row| row.number() == Some(number) && row.direction() == direction))
    }

    /// Demands that the VM has exactly the ports of `expected`, each with its exact counts. Where the host's KVM
    /// reports no exits, samples are events.
    ///
    /// # Errors
    ///
    /// When a port is missing or too many, a count differs, or a histogram is not complete.
    pub fn ensure_ports(&self, vm: &str, expected: &Expected) -> Result<()> {
        let by_exits = self.text("/source")? == "exits";
        for (&(port, direction), &accesses) in &expected.ports {
            let row = self.port(vm, port, direction)?;
            let row = row.with_context(|| format!("no row for {port:#x} {direction:?}"))?;
            let seen = (row.samples()?, row.count("accesses")?);
            let samples = if by_exits { accesses.exits } else { accesses.events };
            let right = (samples, accesses.elements);
            ensure!(
                seen == right,
                "{port:#x} {direction:?}: {seen:?} samples and accesses, not {right:?}"
            );
        }
        let rows = self.ports(vm)?.len();
        ensure!(rows == expected.ports.len(), "{rows} ports, not {}", expected.ports.len());
        let all =
            DETAILS.iter().map(|event| self.details(vm, event)).collect::<Result<Vec<_>>>()?;
        self.exits(vm)?
            .iter()
            .chain(all.iter().flatten())
            .try_for_each(JsonRow::ensure_all_durations)
    }

    /// Demands the exact counts of MMIO reads, MSR accesses and CPUID.
    ///
    /// # Errors
    ///
    /// When a row is missing or a count differs.
    pub fn ensure_registers(&self, vm: &str, expected: &Expected) -> Result<()> {
        let reads =
            expected.mmio_reads.iter().map(|(&at, &count)| ("mmio", at, Some("read"), count));
        let msr = |direction| {
            move |(&msr, &count): (&u32, &u64)| ("msr", u64::from(msr), Some(direction), count)
        };
        let msrs = expected.msr_reads.iter().map(msr("read"));
        let msrs = msrs.chain(expected.msr_writes.iter().map(msr("write")));
        for (event, number, direction, count) in reads.chain(msrs) {
            let row = self.detail(vm, event, number, direction)?;
            let row = row.with_context(|| format!("no row for {event} {number:#x}"))?;
            let accesses = row.count("accesses")?;
            ensure!(accesses == count, "{event} {number:#x}: {accesses} accesses, not {count}");
        }
        let sum = |event| {
            let rows = self.details(vm, event)?;
            rows.iter().map(|row| row.count("accesses")).sum::<Result<u64>>()
        };
        for (event, count) in
            [("mmio", expected.mmio()), ("msr", expected.msr()), ("cpuid", expected.cpuid)]
        {
            let accesses = sum(event)?;
            ensure!(accesses == count, "{event}: {accesses} accesses, not {count}");
        }
        Ok(())
    }

    /// Demands that a guest's port accesses add up, and that the ports of its rounds got rows of their own although
    /// its set-up, that of [`BareGuest::boot`], had filled the table.
    ///
    /// # Errors
    ///
    /// When the sum differs, a port has no row, or too many accesses came before the rows were evicted.
    pub fn ensure_rows_for(&self, vm: &str, guest: &BareGuest, rounds: u64) -> Result<()> {
        let all = guest.expected(rounds).io();
        let rows = self.ports(vm)?;
        let samples = rows.iter().map(JsonRow::samples).sum::<Result<u64>>()?;
        ensure!(samples == all, "{samples} accesses to ports, not {all}");
        let mut own = 0;
        for (&(port, direction), accesses) in &(guest.per_round() * rounds).ports {
            let row = self.port(vm, port, direction)?;
            let samples = row.with_context(|| format!("no row for {port:#x}"))?.samples()?;
            ensure!(samples <= accesses.exits, "{port:#x}: {samples} of {}", accesses.exits);
            own += samples;
        }
        let late = (guest.per_round() * rounds).io() - own;
        println!("{late} accesses before the ports had rows");
        // The idle scan must pass each row twice: 8 rows at a time, once in 32 accesses. The rest is for the
        // accesses until the evicted rows are in use again.
        ensure!(late <= 2 * 128 / 8 * 32 + 512, "{late} accesses before the ports had rows");
        Ok(())
    }

    /// Rows of the VM's ports.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn ports(&self, vm: &str) -> Result<Vec<JsonRow<'_>>> {
        self.details(vm, "ioport")
    }

    /// Rows of the VM's table of an event; none without such a table.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn details(&self, vm: &str, event: &str) -> Result<Vec<JsonRow<'_>>> {
        let details = self.vm(vm)?["details"].as_object().context("the VM has no details")?;
        let rows = details.get(event).and_then(Value::as_array);
        Ok(rows.map_or_else(Vec::new, |rows| rows.iter().map(JsonRow).collect()))
    }

    /// Accesses in the VM's table of an event, by number and direction, and those on `other`.
    ///
    /// # Errors
    ///
    /// When the report has no such VM or a row has no count.
    pub fn accesses(&self, vm: &str, event: &str) -> Result<(AccessCounts, u64)> {
        let (mut accesses, mut other) = (AccessCounts::new(), 0);
        for row in self.details(vm, event)? {
            let count = row.count("accesses")?;
            let written = matches!(row.direction(), Some("out" | "write"));
            match row.number() {
                Some(number) => *accesses.entry((number, written)).or_default() += count,
                None => other += count,
            }
        }
        Ok((accesses, other))
    }

    /// Findings of the VM, the most expensive first.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn findings(&self, vm: &str) -> Result<Vec<JsonFinding<'_>>> {
        let findings = self.vm(vm)?["findings"].as_array().context("the VM has no findings")?;
        Ok(findings.iter().map(JsonFinding).collect())
    }

    /// Finding of a rule.
    ///
    /// # Errors
    ///
    /// When the VM has no such finding.
    pub fn finding(&self, vm: &str, rule: &str) -> Result<JsonFinding<'_>> {
        let findings = self.findings(vm)?;
        let found = findings.iter().find(|finding| finding.rule() == rule).copied();
        found.with_context(|| format!("no finding {rule} among {findings:?}"))
    }

    /// IDs of the rules that found busy but healthy patterns.
    ///
    /// # Errors
    ///
    /// When the report has no such VM.
    pub fn healthy(&self, vm: &str) -> Result<Vec<&str>> {
        let healthy = self.vm(vm)?["healthy"].as_array().context("the VM has no list of these")?;
        Ok(healthy.iter().filter_map(|healthy| healthy["rule"].as_str()).collect())
    }

    /// The accounting as JSON, for messages.
    pub fn accounting(&self) -> String {
        self.0["accounting"].to_string()
    }

    /// VM with this name.
    fn vm(&self, name: &str) -> Result<&Value> {
        let vms = self.0["vms"].as_array().context("the report has no vms")?;
        let vm = vms.iter().find(|vm| vm["name"] == name);
        vm.with_context(|| format!("the report has no VM {name}: {}", self.0))
    }
}

/// A finding of a report.
#[derive(Clone, Copy, Debug)]
pub struct JsonFinding<'a>(&'a Value);

impl<'a> JsonFinding<'a> {
    /// ID of the rule; empty if the field is missing.
    pub fn rule(&self) -> &'a str {
        self.0["rule"].as_str().unwrap_or_default()
    }

    /// Value of a field; null if it is missing.
    pub fn field(&self, name: &str) -> &'a Value {
        &self.0[name]
    }

    /// Remedy for `windows`, `linux`, or `unknown`, which is for all.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn remedy(&self, os: &str) -> Result<&'a Value> {
        let mut remedies = self.0["remedies"].as_array().into_iter().flatten();
        let remedy = remedies.find(|remedy| remedy["os"] == os);
        remedy.with_context(|| format!("no remedy for {os}: {}", self.0))
    }
}

/// A row of a table in a report.
#[derive(Clone, Copy, Debug)]
pub struct JsonRow<'a>(&'a Value);

impl JsonRow<'_> {
    /// Name of an exit reason.
    pub fn reason(&self) -> Option<&str> {
        self.0["reason"].as_str()
    }

    /// Port, address, register or leaf; none in the row `other`.
    pub fn number(&self) -> Option<u64> {
        self.0["number"].as_u64()
    }

    /// Direction: `in` or `out`, `read` or `write`.
    pub fn direction(&self) -> Option<&str> {
        self.0["direction"].as_str()
    }

    /// Name of the device at the port or address, asked or guessed.
    pub fn device_name(&self) -> Option<&str> {
        self.0["device"]["name"].as_str()
    }

    /// Whether this is the row `other`.
    pub fn is_other(&self) -> bool {
        self.0["number"].is_null() && self.0["code"].is_null()
    }

    /// Demands that each timed exit is in the histogram, which is counted separately.
    ///
    /// # Errors
    ///
    /// When the two numbers differ or a field is missing.
    pub fn ensure_all_durations(&self) -> Result<()> {
        let buckets = self.0["histogram"].as_array().context("a row has no histogram")?;
        let durations: u64 = buckets.iter().filter_map(|bucket| bucket["count"].as_u64()).sum();
        ensure!(durations == self.count("timed")?, "{durations} durations: {}", self.0);
        Ok(())
    }

    /// Number of exits, or of events on a host that reports no exits.
    ///
    /// # Errors
    ///
    /// When the field is missing.
    pub fn samples(&self) -> Result<u64> {
        self.count("samples")
    }

    /// Device at the port or address; null if it is unknown.
    pub fn device(&self) -> &Value {
        &self.0["device"]
    }

    /// Value of a field that is a count.
    ///
    /// # Errors
    ///
    /// When the field is missing.
    pub fn count(&self, field: &str) -> Result<u64> {
        self.0[field].as_u64().with_context(|| format!("no count '{field}' in {}", self.0))
    }
}
