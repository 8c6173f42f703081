//! Names of exit codes, and which of them mean waiting rather than work. There is one table per
//! vendor: the same number has different meanings on Intel and AMD.

pub mod print_fmt;
mod svm;
mod vmx;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{reason::print_fmt::ReasonNames, vendor::Vendor};

/// One exit reason of a vendor's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    code: u32,
    name: &'static str,
    waits: bool,
}

/// Flags in the upper half of an Intel exit reason (Intel SDM vol. 3, 26.9.1).
const VMX_FLAGS: &[(u32, &str)] =
    &[(1 << 31, "FAILED_VMENTRY"), (1 << 27, "ENCLAVE"), (1 << 26, "BUS_LOCK")];
const VMX_NUMBER: u32 = 0xffff;

impl Reason {
    const fn works(code: u32, name: &'static str) -> Self {
        Self { code, name, waits: false }
    }

    const fn waits(code: u32, name: &'static str) -> Self {
        Self { code, name, waits: true }
    }
}

impl Vendor {
    /// The exit code of Linux's name.
    pub(crate) fn code_of(self, name: &str) -> Option<u32> {
        self.table().iter().find(|reason| reason.name == name).map(|reason| reason.code)
    }

    /// Whether an exit code, without flags, has this name in Linux.
    pub(crate) fn is_named(self, code: u32, name: &str) -> bool {
        self.find(code).is_some_and(|reason| reason.name == name)
    }

    /// The flag bit of Linux's name.
    pub(crate) fn flag_of(self, name: &str) -> Option<u32> {
        let flags = if self == Self::Vmx { VMX_FLAGS } else { &[] };
        flags.iter().find(|(_, known)| *known == name).map(|(flag, _)| *flag)
    }

    /// Codes of exits in which the vCPU waits.
    pub fn waiting(self) -> impl Iterator<Item = u32> {
        self.table().iter().filter(|reason| reason.waits).map(|reason| reason.code)
    }

    const fn table(self) -> &'static [Reason] {
        match self {
            Self::Vmx => vmx::REASONS,
            Self::Svm => svm::REASONS,
        }
    }

    fn find(self, code: u32) -> Option<&'static Reason> {
        let code = match self {
            Self::Vmx => code & VMX_NUMBER,
            Self::Svm => code,
        };
        self.table().iter().find(|reason| reason.code == code)
    }
}

/// Names of exit codes: those of the measured kernel, with the built-in tables as fallback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Names {
    kernel: ReasonNames,
}

impl Names {
    /// Names from the text of `kvm_exit`'s `format` file.
    pub fn of_format(format: &str) -> Self {
        Self { kernel: ReasonNames::parse(format) }
    }

    /// Names of these codes, including built-in ones: sufficient to report them on another host.
    pub fn subset(&self, codes: impl IntoIterator<Item = (Vendor, u32)>) -> Self {
        let flags = self.kernel.flags.clone();
        let mut kernel = ReasonNames { flags, ..ReasonNames::default() };
        for (vendor, code) in codes {
            let (names, number) = match vendor {
                Vendor::Vmx => (&mut kernel.vmx, code & VMX_NUMBER),
                Vendor::Svm => (&mut kernel.svm, code),
            };
            let is_new = names.iter().all(|(known, _)| *known != number);
            if let Some(name) = self.bare_name(vendor, number).filter(|_| is_new) {
                names.push((number, name.to_owned()));
            }
        }
        Self { kernel }
    }

    /// Adds missing names.
    pub fn extend(&mut self, others: Self) {
        let ReasonNames { vmx, svm, flags } = others.kernel;
        let mine = &mut self.kernel;
        for (known, names) in [(&mut mine.vmx, vmx), (&mut mine.svm, svm), (&mut mine.flags, flags)]
        {
            for name in names {
                if known.iter().all(|(number, _)| *number != name.0) {
                    known.push(name);
                }
            }
        }
    }

    /// Number of names besides the built-in ones.
    pub(crate) fn count(&self) -> usize {
        self.kernel.vmx.len() + self.kernel.svm.len() + self.kernel.flags.len()
    }

    /// Name of an exit code as Linux prints it; the number if it has no name.
    pub fn name(&self, vendor: Option<Vendor>, code: u32) -> Cow<'_, str> {
        let Some(vendor) = vendor else { return format!("reason {code:#x}").into() };
        let number = match vendor {
            Vendor::Vmx => code & VMX_NUMBER,
            Vendor::Svm => code,
        };
        let name: Cow<'_, str> = match self.bare_name(vendor, number) {
            Some(name) => name.into(),
            None => format!("unknown {number:#x}").into(),
        };
        if number == code {
            return name;
        }
        let kernel = self.kernel.flags.iter().map(|(flag, name)| (*flag, name.as_str()));
        let built_in = VMX_FLAGS
            .iter()
            .copied()
            .filter(|(flag, _)| !self.kernel.flags.iter().any(|(known, _)| known == flag));
        kernel
            .chain(built_in)
            .filter(|(flag, _)| code & flag != 0)
            .fold(name, |name, (_, flag)| format!("{name} {flag}").into())
    }

    /// Name of a code without flags.
    fn bare_name(&self, vendor: Vendor, number: u32) -> Option<&str> {
        let own = match vendor {
            Vendor::Vmx => &self.kernel.vmx,
            Vendor::Svm => &self.kernel.svm,
        };
        let own = own.iter().find(|(known, _)| *known == number).map(|(_, name)| name.as_str());
        own.or_else(|| Some(vendor.find(number)?.name))
    }
}

/// Whether the vCPU waits in this exit (it has halted).
pub fn waits(vendor: Option<Vendor>, code: u32) -> bool {
    vendor.and_then(|vendor| vendor.find(code)).is_some_and(|reason| reason.waits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(vendor: Option<Vendor>, code: u32) -> String {
        Names::default().name(vendor, code).into_owned()
    }

    #[test]
    fn reason_names_differ_between_vendors() {
        assert_eq!(built_in(Some(Vendor::Vmx), 0x1e), "IO_INSTRUCTION");
        assert_eq!(built_in(Some(Vendor::Svm), 0x7b), "io");
        assert_eq!(built_in(Some(Vendor::Svm), 0x0c), "unknown 0xc");
        assert!(waits(Some(Vendor::Vmx), 12) && !waits(Some(Vendor::Svm), 12));
        assert!(waits(Some(Vendor::Svm), 0x78));
        assert_eq!(built_in(Some(Vendor::Svm), u32::MAX), "invalid_guest_state");
        assert_eq!(built_in(None, 12), "reason 0xc");
    }

    #[test]
    fn reason_flags_are_appended_to_name() {
        assert_eq!(built_in(Some(Vendor::Vmx), 0x8000_0021), "INVALID_STATE FAILED_VMENTRY");
        assert_eq!(built_in(Some(Vendor::Vmx), 0x0400_0030), "EPT_VIOLATION BUS_LOCK");
        assert_eq!(built_in(Some(Vendor::Vmx), 0x0000_03e7), "unknown 0x3e7");
    }

    #[test]
    fn kernel_reason_names_take_precedence() {
        let names = Names::of_format(
            "print fmt: \"%s\", (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, \
             { 30, \"IO\" }, { 999, \"NEW\" }) : __print_symbolic(REC->exit_reason, { 0x7b, \"io2\" })",
        );
        assert_eq!(names.name(Some(Vendor::Vmx), 30), "IO");
        assert_eq!(names.name(Some(Vendor::Vmx), 999), "NEW");
        assert_eq!(names.name(Some(Vendor::Svm), 0x7b), "io2");
        assert_eq!(names.name(Some(Vendor::Vmx), 10), "CPUID");
    }

    #[test]
    fn reason_names_subset_names_its_codes_only() {
        let names = Names::of_format(
            "print fmt: (REC->isa == 1) ? __print_symbolic(REC->exit_reason & 0xffff, { 30, \"IO\" }, \
             { 999, \"NEW\" }) : __print_flags(REC->exit_reason, \"|\", { 1 << 26, \"LOCK\" })",
        );
        let codes = [30, 10, 0x400_001e, 4_242].map(|code| (Vendor::Vmx, code));
        let some = names.subset(codes);
        for (vendor, code) in codes {
            assert_eq!(some.name(Some(vendor), code), names.name(Some(vendor), code), "{code}");
        }
        assert_eq!(some.kernel.vmx.len(), 2, "{some:?}");
        assert_eq!(some.name(Some(Vendor::Vmx), 999), "unknown 0x3e7");
    }

    #[test]
    fn reason_codes_are_unique() {
        for table in [vmx::REASONS, svm::REASONS] {
            for (at, reason) in table.iter().enumerate() {
                assert!(!table[..at].iter().any(|other| other.code == reason.code), "{reason:?}");
            }
        }
    }
}
