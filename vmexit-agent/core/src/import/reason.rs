//! Exit reasons in the text of perf: the kernel's names, those of libtraceevent's plugin
//! (plugins/plugin_kvm.c), or numbers.

use crate::vendor::Vendor;

/// Former names of Intel's exit reasons in Linux.
const OLD_VMX: [(&str, u32); 1] = [("PENDING_INTERRUPT", 7)];

/// The plugin's names of AMD's exit codes, without `EXIT_`, except those that are the kernel's
/// names in capitals.
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

/// The vendor, if the text determines it, and the exit code.
pub(super) fn of_text(text: &str) -> Option<(Option<Vendor>, u32)> {
    if let Some(code) = number(text) {
        return Some((None, code));
    }
    let found = [Vendor::Vmx, Vendor::Svm]
        .into_iter()
        .find_map(|vendor| Some((vendor, named(vendor, text)?)));
    found.map(|(vendor, code)| (Some(vendor), code))
}

/// A number: `0x7b` from the kernel, `UNKNOWN (123)` from the plugin.
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
        // Flags follow the name, separated by |.
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
            let kernel_code = match name.strip_prefix("EXCP_") {
                Some(exception) => vendor.code_of(&format!("{exception} excp")),
                None => vendor.code_of(&name.to_ascii_lowercase()),
            };
            kernel_code.or_else(|| find(&PLUGIN_SVM, name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_reason_in_all_forms_is_parsed() {
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
