//! Scripts that run a guest and the agent side by side in a lab, and the sections of output that they print.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{
    agent,
    guest::{BareGuest, LinuxGuest, Qemu},
    lab::{Lab, LabKernel, LabVendor, default_cache},
};

/// A lab with QEMU, the guest's ROM and the agent, as `vmexit`.
///
/// The kernel is that of the Debian release, or the version in `VMEXIT_LAB_KERNEL`, such as `6.12`.
///
/// # Errors
///
/// When the kernel can't be found or downloaded, or the agent is not built.
pub fn lab(vendor: LabVendor, guest: &BareGuest) -> Result<Lab> {
    Ok(without_guest(vendor)?.file(format!("/tmp/{}", Qemu::ROM), guest.rom(), 0o644))
}

/// A lab with QEMU, the kernel and initramfs of a [`LinuxGuest`], and the agent, as `vmexit`. The guest's kernel
/// is that of the lab.
///
/// # Errors
///
/// See [`lab`].
pub fn linux_lab(vendor: LabVendor) -> Result<Lab> {
    let lab = without_guest(vendor)?.kernel_image(format!("/tmp/{}", Qemu::KERNEL));
    Ok(lab.initramfs(format!("/tmp/{}", Qemu::INITRAMFS), LinuxGuest::INIT))
}

fn without_guest(vendor: LabVendor) -> Result<Lab> {
    let version = std::env::var("VMEXIT_LAB_KERNEL").ok();
    let kernel = LabKernel::find(&default_cache(), version.as_deref())?;
    Ok(Lab::new(kernel).vendor(vendor).qemu().binary("/usr/bin/vmexit", agent::program()?))
}

/// Script that starts the guest, paused until `cont` is written to file descriptor 3. It defines:
///
/// - `kvm`: KVM's debugfs directory of the VM; `pid`: the process ID of QEMU.
/// - `dots`, `missed`, `wait_dots N`: the guest's rounds and missed HLTs so far, and the wait for so many rounds.
/// - `wait_attached`: see [`wait_attached`].
pub fn start(name: &str) -> String {
    start_on(Qemu::nested(name))
}

/// Script like that of [`start`] for a QEMU with further options.
pub fn start_on(qemu: Qemu) -> String {
    let qemu = qemu.paused().arg("-monitor").arg("stdio").shell(Path::new("/tmp"));
    format!(
        r#"
set -e
mkfifo /tmp/monitor
{qemu} < /tmp/monitor > /tmp/qemu.log 2>&1 &
exec 3> /tmp/monitor
until kvm=$(ls -d /sys/kernel/debug/kvm/*-* 2> /dev/null); do sleep 0.1; done
pid=${{kvm##*/}}
pid=${{pid%-*}}
dots() {{ tr -cd . < /tmp/{serial} | wc -c; }}
missed() {{ tr -cd - < /tmp/{serial} | wc -c; }}
wait_dots() {{ until [ "$(dots)" -ge "$1" ]; do sleep 0.2; done; }}
"#,
        serial = Qemu::SERIAL,
    ) + &wait_attached()
}

/// Script that defines `wait_attached PID [LINKS]`: it waits until the agent with this process ID counts, which
/// is when it holds so many links; all, by default.
pub fn wait_attached() -> String {
    format!(
        r#"
attached() {{ [ "$(cat /proc/$1/fdinfo/* 2> /dev/null | grep -c link_type)" -ge ${{2:-{links}}} ]; }}
wait_attached() {{ until attached "$@"; do kill -0 "$1"; sleep 0.1; done; sleep 1; }}
"#,
        links = agent::LINKS,
    )
}

/// Script in which `vmexit capture` and `perf kvm stat record` watch a guest of so many rounds, from its first
/// exit to its last. The results are in `/tmp/report.json` and `/tmp/perf.data`.
pub fn beside_perf(guest: &str, rounds: u64) -> String {
    start(guest)
        + &format!(
            r#"
cd /tmp
vmexit capture -q -d 10m -f json -o /tmp/report.json &
agent=$!
perf kvm stat record -p $pid -o /tmp/perf.data > /tmp/perf.log 2>&1 &
perf=$!
wait_attached $agent
# perf has begun when its buffers are there.
until [ -s /tmp/perf.data ]; do kill -0 $perf; sleep 0.2; done
sleep 3
echo cont >&3
wait_dots {rounds}
sleep 2
kill -INT $agent $perf
wait $agent
wait $perf || true
"#
        )
}

/// Script in which agents watch a guest of so many rounds, from its first exit to its last. `agents` are names
/// and shell arguments. The script prints the sections `dots`, `missed` (missed HLTs), `exits` (KVM's own
/// count), and for each agent `NAME`, its standard output, and `NAME said`, its standard error.
pub fn watch(guest: &str, rounds: u64, agents: &[(&str, String)]) -> String {
    let (mut attach, mut print) = (String::new(), String::new());
    for (name, arguments) in agents {
        // Without timing the agent has one program less.
        let links = agent::LINKS - usize::from(arguments.contains("--timing off"));
        attach += &format!(
            r#"
vmexit {arguments} > /tmp/{name} 2> /tmp/{name}.said &
agents="$agents $!"
wait_attached $! {links}
"#
        );
        print += &format!(
            r#"
echo "== {name}"; cat /tmp/{name}
echo "== {name} said"; cat /tmp/{name}.said
"#
        );
    }
    start(guest)
        + &format!(
            r#"
# Why an agent failed, if one did.
trap 'cat /tmp/*.said >&2' EXIT
{attach}
before=$(cat $kvm/exits)
echo cont >&3
wait_dots {rounds}
sleep 2
after=$(cat $kvm/exits)
kill -INT $agents
for agent in $agents; do wait $agent; done
echo "== dots"; dots
echo "== missed"; missed
echo "== exits"; echo $((after - before))
{print}
"#
        )
}

/// Script like that of [`watch`] for one capture with these further options; its section is `report`.
pub fn capture_all(name: &str, rounds: u64, options: &str) -> String {
    watch(name, rounds, &[("report", capture(options))])
}

/// Arguments of a capture for [`watch`] with these further options. It runs until SIGINT.
pub fn capture(options: &str) -> String {
    format!("capture -q -d 10m -f json {options}")
}

/// Output of a script: sections under headings of the form `== name`.
#[derive(Debug)]
pub struct Printed(String);

impl Printed {
    /// Runs a script in a lab and returns its output.
    ///
    /// # Errors
    ///
    /// When the lab fails, the script ends with another code than 0, or its output is not UTF-8.
    pub fn by(lab: &Lab, script: &str) -> Result<Self> {
        let run = lab.run(script)?;
        let stdout = String::from_utf8(run.stdout).context("the script's output is not text")?;
        let stderr = String::from_utf8_lossy(&run.stderr);
        ensure!(run.code == 0, "the script ended with {}: {stderr}\n{stdout}", run.code);
        Ok(Self(stdout))
    }

    /// Text of a section.
    ///
    /// # Errors
    ///
    /// When there is no such section.
    pub fn section(&self, name: &str) -> Result<&str> {
        let heading = format!("== {name}\n");
        let (_, rest) = self
            .0
            .split_once(&heading)
            .with_context(|| format!("no section '{name}' in {}", self.0))?;
        // An empty section is followed by the next heading at once.
        let empty = rest.starts_with("== ");
        Ok(if empty { "" } else { rest.split("\n== ").next().unwrap_or(rest).trim() })
    }

    /// Number in a section.
    ///
    /// # Errors
    ///
    /// When there is no such section or it is not a number.
    pub fn number(&self, name: &str) -> Result<u64> {
        let text = self.section(name)?;
        text.parse().with_context(|| format!("'{text}' in section '{name}' is no number"))
    }

    /// Report in the section `report`.
    ///
    /// # Errors
    ///
    /// When there is no such section or it is not JSON.
    pub fn report(&self) -> Result<agent::JsonReport> {
        agent::JsonReport::parse(self.section("report")?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_sections_end_at_next_heading() {
        let printed = Printed("noise\n== a\n1\n== none\n== b\ntwo\nlines\n".to_owned());
        assert_eq!(printed.number("a").unwrap(), 1);
        assert_eq!(printed.section("none").unwrap(), "");
        assert_eq!(printed.section("b").unwrap(), "two\nlines");
        assert!(printed.section("c").is_err() && printed.number("b").is_err());
    }
}
