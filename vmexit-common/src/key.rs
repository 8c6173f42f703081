//! The 64-bit key of a row: kind (exit reason, I/O port …), direction, access size, and value. A key is
//! never 0; 0 marks a free row.
//!
//! ```text
//! 63    60 59     58 … 55   54                                    0
//! ┌───────┬───────┬────────┬───────────────────────────────────────┐
//! │ kind  │ write │ size   │ exit code, port (room for a GPA)      │
//! └───────┴───────┴────────┴───────────────────────────────────────┘
//! ```

/// Kind of a row. It defines the meaning of the key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A VM exit by reason; the value is the vendor's exit code.
    Reason = 1,
    /// An access to an I/O port; the value is the port.
    Pio = 2,
    /// An access to memory-mapped device registers; the value is the guest physical address with the
    /// last two bits cleared, since registers have four bytes.
    Mmio = 3,
    /// A write to an ioeventfd, which only wakes a thread up; the value is the guest physical address.
    FastMmio = 4,
    /// An access to a model-specific register; the value is its number.
    Msr = 5,
    /// The CPUID instruction; the value is the leaf.
    Cpuid = 6,
    /// A hypercall to KVM; the value is its number.
    Hypercall = 7,
    /// A Hyper-V hypercall, as KVM emulates it; the value is the call code.
    HvHypercall = 8,
    /// A page fault on the host's page tables of guest memory; the value is the low six bits of the
    /// CPU's fault code, in the vendor's encoding.
    Fault = 9,
    /// An exit that KVM passed to userspace; the value is `KVM_EXIT_…`, or one of [`userspace`].
    Userspace = 10,
    /// Events whose key has no row of its own; the value is their kind.
    Other = 15,
}

/// Values of [`Kind::Userspace`] for returns without a `KVM_EXIT_…` reason.
pub mod userspace {
    /// `KVM_RUN` was interrupted by a signal.
    pub const INTERRUPTED: u32 = 0xffff_0000;
    /// `KVM_RUN` failed with another error.
    pub const FAILED: u32 = 0xffff_0001;
}

/// Number of possible kinds; a power of two.
pub const KINDS: usize = 16;

/// Key of a row; see the module's documentation for its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Key(pub u64);

const KIND_SHIFT: u32 = 60;
const WRITE_SHIFT: u32 = 59;
const SIZE_SHIFT: u32 = 55;
const SIZE_MASK: u64 = 15;
const VALUE: u64 = (1 << SIZE_SHIFT) - 1;

impl Key {
    /// No key: a free row, or an exit without a detail.
    pub const NONE: Self = Self(0);
    /// Key of an exit reason. All 32 bits of the exit code are kept: Intel has flags in the upper half,
    /// such as a failed entry.
    #[inline(always)]
    pub const fn reason(code: u32) -> Self {
        Self::plain(Kind::Reason, code as u64)
    }

    /// Key of a kind and a value of at most 55 bits, without direction and size.
    #[inline(always)]
    pub const fn plain(kind: Kind, value: u64) -> Self {
        Self((kind as u64) << KIND_SHIFT | value)
    }

    /// Key of an I/O port, direction (1 for OUT) and access size in bytes. Nothing is masked: a port has
    /// 16 bits in KVM, and a size is at most 8 (`emulator_pio_in_out`, arch/x86/kvm/x86.c).
    #[inline(always)]
    pub const fn pio(port: u64, write: u64, size: u64) -> Self {
        Self(Self::head(Kind::Pio, write, size) | port)
    }

    /// Key of a memory-mapped register, direction (1 for a write) and access size in bytes, at most 8
    /// (`struct kvm_mmio_fragment`, include/linux/kvm_host.h).
    #[inline(always)]
    pub const fn mmio(address: u64, write: u64, size: u64) -> Self {
        Self(Self::head(Kind::Mmio, write, size & SIZE_MASK) | address & VALUE & !3)
    }

    /// Key of a model-specific register and direction (1 for a write).
    #[inline(always)]
    pub const fn msr(number: u64, write: u64) -> Self {
        Self(Self::head(Kind::Msr, write, 0) | number)
    }

    /// Key of the `other` row of this key's kind.
    #[inline(always)]
    pub const fn other(self) -> Self {
        Self::plain(Kind::Other, self.kind_number() as u64)
    }

    /// Bits of the key above the value.
    #[inline(always)]
    const fn head(kind: Kind, write: u64, size: u64) -> u64 {
        (kind as u64) << KIND_SHIFT | write << WRITE_SHIFT | size << SIZE_SHIFT
    }

    /// Kind of the key; `None` if this version does not know it.
    pub const fn kind(self) -> Option<Kind> {
        Self::kind_of(self.0 >> KIND_SHIFT)
    }

    /// Number of the kind, below [`KINDS`].
    #[inline(always)]
    pub const fn kind_number(self) -> usize {
        (self.0 >> KIND_SHIFT) as usize
    }

    /// Kind whose table shows the row: the key's own, or for [`Kind::Other`] the kind in its value.
    pub const fn table(self) -> Option<Kind> {
        match self.kind() {
            Some(Kind::Other) => Self::kind_of(self.value()),
            kind => kind,
        }
    }

    const fn kind_of(number: u64) -> Option<Kind> {
        Some(match number {
            1 => Kind::Reason,
            2 => Kind::Pio,
            3 => Kind::Mmio,
            4 => Kind::FastMmio,
            5 => Kind::Msr,
            6 => Kind::Cpuid,
            7 => Kind::Hypercall,
            8 => Kind::HvHypercall,
            9 => Kind::Fault,
            10 => Kind::Userspace,
            15 => Kind::Other,
            _ => return None,
        })
    }

    /// Value of the key; its meaning depends on the [`Kind`].
    pub const fn value(self) -> u64 {
        self.0 & VALUE
    }

    /// Whether the access is a write (OUT, WRMSR) rather than a read.
    pub const fn is_write(self) -> bool {
        self.0 >> WRITE_SHIFT & 1 != 0
    }

    /// Access size, bytes; `None` for kinds without one.
    pub const fn size(self) -> Option<u8> {
        match (self.kind(), self.0 >> SIZE_SHIFT & SIZE_MASK) {
            (Some(Kind::Pio | Kind::Mmio), size) => Some(size as u8),
            _ => None,
        }
    }

    /// The key without its access size.
    pub const fn of_any_size(self) -> Self {
        Self(self.0 & !(SIZE_MASK << SIZE_SHIFT))
    }

    /// Home slot of the key in a hash table of `1 << bits` rows (Fibonacci hashing). It spreads
    /// neighbouring ports and the two directions of a port apart.
    #[inline(always)]
    pub const fn home(self, bits: u32) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_fields_round_trip() {
        let parts = |key: Key| (key.kind(), key.value(), key.is_write(), key.size());
        let pio = Some(Kind::Pio);
        assert_eq!(parts(Key::pio(0x608, 0, 4)), (pio, 0x608, false, Some(4)));
        assert_eq!(parts(Key::pio(0xffff, 1, 1)), (pio, 0xffff, true, Some(1)));
        assert_eq!(parts(Key::pio(0, 1, 8)), (pio, 0, true, Some(8)));
        let key = Key::reason(0x8000_0021);
        assert_eq!((key.kind(), key.value()), (Some(Kind::Reason), 0x8000_0021));
        assert_eq!((key.size(), Key::NONE.kind(), Key::NONE.size()), (None, None, None));
        assert_ne!(Key::reason(0), Key::NONE);
    }

    #[test]
    fn other_key_keeps_kind() {
        for (key, kind) in [
            (Key::reason(0x1e), Kind::Reason),
            (Key::pio(0x608, 0, 4), Kind::Pio),
            (Key::mmio(0xfed0_00f2, 0, 4), Kind::Mmio),
            (Key::plain(Kind::FastMmio, 0xfe00_3000), Kind::FastMmio),
            (Key::msr(0x6e0, 1), Kind::Msr),
            (Key::plain(Kind::Cpuid, 0x4000_0000), Kind::Cpuid),
            (Key::plain(Kind::Hypercall, 5), Kind::Hypercall),
            (Key::plain(Kind::HvHypercall, 0x5c), Kind::HvHypercall),
            (Key::plain(Kind::Fault, 2), Kind::Fault),
            (Key::plain(Kind::Userspace, 2), Kind::Userspace),
        ] {
            assert_eq!((key.kind(), key.table()), (Some(kind), Some(kind)));
            let other = key.other();
            assert_eq!((other.kind(), other.table()), (Some(Kind::Other), Some(kind)));
        }
    }

    #[test]
    fn mmio_key_address_is_rounded_to_four_bytes() {
        assert_eq!(Key::mmio(0xfed0_00f0, 0, 4), Key::mmio(0xfed0_00f3, 0, 4));
        assert_eq!(Key::mmio(u64::MAX, 1, 8).value() & 3, 0);
        assert_eq!(Key::mmio(u64::MAX, 1, 8).size(), Some(8));
    }

    #[test]
    fn of_any_size_clears_size_only() {
        let (one, four) = (Key::pio(0x608, 0, 1), Key::pio(0x608, 0, 4));
        assert_ne!(one, four);
        assert_eq!(one.of_any_size(), four.of_any_size());
    }
}
