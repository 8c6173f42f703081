//! Names of page faults on guest memory, from the CPU's fault code.

use crate::vendor::Vendor;

/// Intel's exit qualification (`EPT_VIOLATION_ACC_…`, arch/x86/include/asm/vmx.h).
const VMX: Bits = Bits { write: 1 << 1, fetch: 1 << 2, present: 0b111 << 3, reserved: 0 };
/// AMD's error code (`PFERR_…`, arch/x86/include/asm/kvm_host.h).
const SVM: Bits = Bits { write: 1 << 1, fetch: 1 << 4, present: 1, reserved: 1 << 3 };

struct Bits {
    write: u64,
    fetch: u64,
    present: u64,
    reserved: u64,
}

impl Bits {
    const fn of(vendor: Vendor) -> Self {
        match vendor {
            Vendor::Vmx => VMX,
            Vendor::Svm => SVM,
        }
    }
}

/// State of the page at a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// No page: the guest's first access, or the page was swapped out.
    Missing,
    /// Access not permitted: the page is write-protected, as during migration, or shared.
    Protected,
    /// Registers of an emulated device, marked by a reserved bit.
    Device,
}

impl Page {
    /// Page state by fault code; `None` if the vendor is unknown.
    pub fn of(vendor: Option<Vendor>, code: u64) -> Option<Self> {
        let bits = Bits::of(vendor?);
        Some(match code {
            _ if code & bits.reserved != 0 => Self::Device,
            _ if code & bits.present != 0 => Self::Protected,
            _ => Self::Missing,
        })
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Missing => "missing page",
            Self::Protected => "protected page",
            Self::Device => "device memory",
        }
    }
}

/// Name of a fault: `write, missing page`.
pub(super) fn name(vendor: Option<Vendor>, code: u64) -> String {
    let Some((vendor, page)) = vendor.zip(Page::of(vendor, code)) else {
        return format!("code {code:#x}");
    };
    let bits = Bits::of(vendor);
    let access = match code {
        _ if code & bits.fetch != 0 => "fetch",
        _ if code & bits.write != 0 => "write",
        _ => "read",
    };
    format!("{access}, {}", page.title())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_name_uses_bits_of_vendor() {
        assert_eq!(name(Some(Vendor::Vmx), 0b10), "write, missing page");
        assert_eq!(name(Some(Vendor::Vmx), 0b10_1100), "fetch, protected page");
        assert_eq!(name(Some(Vendor::Svm), 0b00110), "write, missing page");
        assert_eq!(name(Some(Vendor::Svm), 0b01101), "read, device memory");
        assert_eq!(name(None, 0x18), "code 0x18");
    }
}
