//! The verdict of a run, from the console and the end of the emulator: the script's exit code or a `LabError`. The
//! console has one verdict line with the run's token, or messages of a crash.

use std::{process::ExitStatus, time::Duration};

use super::error::LabError;

/// Beginning of a verdict line, before the token.
const MARK: &str = "vmexit-lab";

/// Messages that the kernel prints only when it is broken. With `oops=panic` most of these are its last ones. The
/// kernel survives a soft lockup, but measurements during one are worthless.
const CRASHES: [&str; 8] = [
    "Kernel panic",
    "Oops: ",
    "BUG: ",
    "kernel BUG at",
    "soft lockup",
    "hard LOCKUP",
    "general protection fault, ",
    "unable to handle",
];

/// The kernel's last message before a reboot, which not every emulator treats as an orderly end.
const REBOOT: &str = "reboot: Restarting system";

/// End of the emulator.
#[derive(Debug)]
pub(super) enum MachineEnd {
    /// The machine powered off.
    SwitchedOff,
    /// The emulator ended by itself.
    Died { emulator: &'static str, status: ExitStatus, stderr: String },
    /// The emulator was killed at the time-out.
    Killed { limit: Duration },
}

/// Contents of a verdict line.
#[derive(Debug, PartialEq, Eq)]
enum LabVerdict {
    Exit(i32),
    Broken(String),
    Garbled,
}

fn verdicts(console: &str, token: &str) -> Vec<LabVerdict> {
    let mark = format!("{MARK} {token} ");
    let said =
        console.lines().filter_map(|line| line.split_once(&mark)).map(|(_, said)| said.trim());
    said.map(|said| {
        if let Some(code) = said.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
            LabVerdict::Exit(code)
        } else if let Some(step) = said.strip_prefix("broken ") {
            LabVerdict::Broken(step.to_owned())
        } else {
            LabVerdict::Garbled
        }
    })
    .collect()
}

/// Whether the console has a verdict or a panic.
pub(super) fn is_over(console: &str, token: &str) -> bool {
    console.contains(&format!("{MARK} {token} ")) || console.contains("Kernel panic")
}

/// Exit code of the script, or the error if there is none.
pub(super) fn judge(
    console: &str,
    token: &str,
    end: MachineEnd,
    scene: impl Fn() -> String,
) -> Result<i32, LabError> {
    if let Some(scene) = crash(console) {
        return Err(LabError::Crashed { scene });
    }
    let mut verdicts = verdicts(console, token);
    let count = verdicts.len();
    match (verdicts.pop(), count, end) {
        (Some(LabVerdict::Exit(code)), 1, _) => Ok(code),
        (Some(LabVerdict::Broken(step)), 1, _) => Err(LabError::Setup { step, scene: scene() }),
        (Some(_), ..) => Err(LabError::Verdicts { count, scene: scene() }),
        (None, _, MachineEnd::Killed { limit }) => Err(LabError::Hung { limit, scene: scene() }),
        (None, _, MachineEnd::Died { emulator, status, stderr }) if !console.contains(REBOOT) => {
            Err(LabError::Died { emulator, status, stderr, scene: scene() })
        }
        (None, _, MachineEnd::SwitchedOff | MachineEnd::Died { .. }) => {
            Err(LabError::NoVerdict { scene: scene() })
        }
    }
}

/// Console output from the first line of a crash.
fn crash(console: &str) -> Option<String> {
    let lines: Vec<&str> = console.lines().collect();
    let first = lines.iter().position(|line| CRASHES.iter().any(|crash| line.contains(crash)))?;
    let excerpt = &lines[first..lines.len().min(first + 60)];
    Some(excerpt.join("\n"))
}

/// Last lines of a text under a heading; empty for an empty text.
pub(super) fn tail(heading: &str, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "--- {heading}, last lines ---\n{}\n",
        lines[lines.len().saturating_sub(20)..].join("\n")
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn died() -> MachineEnd {
        let status = ExitStatus::from_raw(1 << 8);
        MachineEnd::Died { emulator: "QEMU", status, stderr: "qemu: oh".to_owned() }
    }

    fn judged(console: &str, end: MachineEnd) -> Result<i32, LabError> {
        judge(console, "t0k", end, || "scene".to_owned())
    }

    #[test]
    fn verdict_gives_exit_code() {
        let console = "boot\n[    3.1] vmexit-lab t0k exit 7\n[    3.2] reboot: Power down\n";
        assert!(matches!(judged(console, MachineEnd::SwitchedOff), Ok(7)));
        // The verdict came before the machine hung.
        assert!(matches!(judged(console, MachineEnd::Killed { limit: Duration::ZERO }), Ok(7)));
    }

    #[test]
    fn verdict_with_other_token_is_ignored() {
        let console = "[    3.1] vmexit-lab other exit 0\n";
        assert!(matches!(
            judged(console, MachineEnd::SwitchedOff),
            Err(LabError::NoVerdict { .. })
        ));
    }

    #[test]
    fn verdict_twice_or_garbled_is_an_error() {
        let twice = "vmexit-lab t0k exit 0\nvmexit-lab t0k exit 0\n";
        assert!(matches!(
            judged(twice, MachineEnd::SwitchedOff),
            Err(LabError::Verdicts { count: 2, .. })
        ));
        let garbled = "vmexit-lab t0k exit [  3.2] what\n";
        assert!(matches!(
            judged(garbled, MachineEnd::SwitchedOff),
            Err(LabError::Verdicts { count: 1, .. })
        ));
    }

    #[test]
    fn verdict_of_broken_setup_names_its_step() {
        let error =
            judged("vmexit-lab t0k broken insmod kvm.ko\n", MachineEnd::SwitchedOff).unwrap_err();
        assert!(error.to_string().contains("insmod kvm.ko"), "{error}");
    }

    #[test]
    fn verdict_after_crash_is_ignored() {
        let console = "fine\n[ 9.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!\n\
                       [ 30.1] vmexit-lab t0k exit 0\n";
        let error = judged(console, MachineEnd::SwitchedOff).unwrap_err();
        assert!(matches!(error, LabError::Crashed { .. }));
        let text = error.to_string();
        assert!(text.contains("soft lockup") && !text.contains("fine"), "{text}");
    }

    #[test]
    fn missing_verdict_error_depends_on_end() {
        let limit = Duration::from_secs(5);
        assert!(matches!(
            judged("boot\n", MachineEnd::Killed { limit }),
            Err(LabError::Hung { .. })
        ));
        assert!(matches!(judged("", died()), Err(LabError::Died { .. })));
        let reboot = "[ 6.8] reboot: Restarting system\n";
        assert!(matches!(judged(reboot, died()), Err(LabError::NoVerdict { .. })));
        assert!(matches!(judged("", MachineEnd::SwitchedOff), Err(LabError::NoVerdict { .. })));
    }

    #[test]
    fn console_tail_is_bounded() {
        let text: String = (0..50).map(|line| format!("line {line}\n")).collect();
        let tail = tail("console", text.as_bytes());
        assert!(tail.starts_with("--- console") && tail.ends_with("line 49\n"));
        assert!(!tail.contains("line 29\n"));
    }
}
