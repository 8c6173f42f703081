//! Exit reasons as text of perf has them: by the kernel's own names, by those of libtraceevent's plugin
//! (plugins/plugin_kvm.c), or as numbers where neither has one.

use crate::vendor::Vendor;

/// Intel's reasons by names that Linux had for them before.
const OLD_VMX: [(&str, u32); 1] = [("PENDING_INTERRUPT", 7)];

/// AMD's reasons by the plugin's names, without `EXIT_`, where those are not the kernel's in capitals.
const PLUGIN_SVM: [(&str, u32); 13] = [
    ("EXCP_BASE", 0x040),
    ("INTR", 0x060),
    ("IDTR_READ", 0x066),
    ("GDTR_READ", 0x067),
    ("LDTR_READ", 0x068),
    ("TR_READ", 0x069),
    ("IDTR_WRITE", 0x06a),
    ("GDTR_WRITE", 0x06b),
    ("LDTR_WRITE", 0x06c),
    ("TR_WRITE", 0x06d),
    ("IOIO", 0x07b),
    ("VMMCALL", 0x081),
    ("ERR", u32::MAX),
];

/// A code, and whose it is if the text says so.
pub(super) fn of_text(text: &str) -> Option<(Option<Vendor>, u32)> {
    if let Some(code) = number(text) {
        return Some((None, code));
    }
    let found = [Vendor::Vmx, Vendor::Svm]
        .into_iter()
        .find_map(|vendor| Some((vendor, named(vendor, text)?)));
    found.map(|(vendor, code)| (Some(vendor), code))
}

/// `0x7b`, as the kernel prints what it has no name for, and `UNKNOWN (123)`, as the plugin does.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("UNKNOWN (").and_then(|rest| rest.strip_suffix(')')) {
        Some(number) => number.parse().ok(),
        None => u32::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
    }
}

fn named(vendor: Vendor, text: &str) -> Option<u32> {
    if let Some(code) = vendor.code_of(text) {
        return Some(code);
    }
    let find = |table: &[(&str, u32)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, code)| *code)
    };
    match vendor {
        // A flag follows the name, or several with | between them.
        Vendor::Vmx => {
            let (name, flags) = text.split_once(' ').unwrap_or((text, ""));
            let code = vendor.code_of(name).or_else(|| find(&OLD_VMX, name))?;
            flags
                .split(['|', ' '])
                .filter(|flag| !flag.is_empty())
                .try_fold(code, |code, flag| Some(code | vendor.flag_of(flag)?))
        }
        Vendor::Svm => {
            let name = text.strip_prefix("EXIT_")?;
            let kernels = match name.strip_prefix("EXCP_") {
                Some(exception) => vendor.code_of(&format!("{exception} excp")),
                None => vendor.code_of(&name.to_ascii_lowercase()),
            };
            kernels.or_else(|| find(&PLUGIN_SVM, name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_it() {
        let (vmx, svm) = (Some(Vendor::Vmx), Some(Vendor::Svm));
        for (text, reason) in [
            ("IO_INSTRUCTION", (vmx, 30)),
            ("PENDING_INTERRUPT", (vmx, 7)),
            ("INVALID_STATE FAILED_VMENTRY", (vmx, 0x8000_0021)),
            ("io", (svm, 0x7b)),
            ("PF excp", (svm, 0x4e)),
            ("EXIT_IOIO", (svm, 0x7b)),
            ("EXIT_EXCP_PF", (svm, 0x4e)),
            ("EXIT_NPF", (svm, 0x400)),
            ("EXIT_CPUID", (svm, 0x72)),
            ("EXIT_ERR", (svm, u32::MAX)),
            ("0x7b", (None, 0x7b)),
            ("UNKNOWN (165)", (None, 165)),
        ] {
            assert_eq!(of_text(text), Some(reason), "{text}");
        }
        for text in ["", "EXIT_", "NEWS", "IO_INSTRUCTION NEWS", "UNKNOWN (", "UNKNOWN-ISA", "0x"] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
