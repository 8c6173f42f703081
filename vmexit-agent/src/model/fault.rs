//! What a page fault on guest memory was, from the bits that the CPU gives of it.

use crate::reason::Vendor;

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

/// In words: `write, missing page`. A missing page is one that the guest touches for the first time, or that
/// was swapped out; a protected one is watched, as in migration, or shared.
pub(super) fn name(vendor: Option<Vendor>, code: u64) -> String {
    let bits = match vendor {
        Some(Vendor::Vmx) => VMX,
        Some(Vendor::Svm) => SVM,
        None => return format!("code {code:#x}"),
    };
    let access = match code {
        _ if code & bits.fetch != 0 => "fetch",
        _ if code & bits.write != 0 => "write",
        _ => "read",
    };
    let page = match code {
        _ if code & bits.reserved != 0 => "device memory",
        _ if code & bits.present != 0 => "protected page",
        _ => "missing page",
    };
    format!("{access}, {page}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vendor_has_its_bits() {
        assert_eq!(name(Some(Vendor::Vmx), 0b10), "write, missing page");
        assert_eq!(name(Some(Vendor::Vmx), 0b10_1100), "fetch, protected page");
        assert_eq!(name(Some(Vendor::Svm), 0b00110), "write, missing page");
        assert_eq!(name(Some(Vendor::Svm), 0b01101), "read, device memory");
        assert_eq!(name(None, 0x18), "code 0x18");
    }
}
