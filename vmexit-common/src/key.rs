//! The 64-bit key of a row: what is counted (exit reason, I/O port …), which direction and size, and
//! which one. A key is never 0, so 0 marks a free row.
//!
//! ```text
//! 63    60 59     58 … 55   54                                    0
//! ┌───────┬───────┬────────┬───────────────────────────────────────┐
//! │ kind  │ write │ size   │ exit code, port (room for a GPA)      │
//! └───────┴───────┴────────┴───────────────────────────────────────┘
//! ```

/// What a row counts. The table of kinds is the one place that says what a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A VM exit by reason; the value is the vendor's exit code.
    Reason = 1,
    /// An access to an I/O port; the value is the port.
    Pio = 2,
    /// An access to a device's registers in memory; the value is the guest physical address, of which the
    /// last two bits are left out: registers have four bytes.
    Mmio = 3,
    /// A write that only wakes somebody up, by ioeventfd; the value is the guest physical address.
    FastMmio = 4,
    /// An access to a model-specific register; the value is its number.
    Msr = 5,
    /// The CPUID instruction; the value is the leaf.
    Cpuid = 6,
    /// A hypercall to KVM; the value is its number.
    Hypercall = 7,
    /// A hypercall to Hyper-V as KVM has it; the value is the call's code.
    HvHypercall = 8,
    /// A page fault on the host's tables of guest memory; the value is what the CPU says of it, as its
    /// vendor encodes it, the low six bits.
    Fault = 9,
    /// An exit that KVM left to userspace; the value is `KVM_EXIT_…`, or one of
    /// [`userspace`].
    Userspace = 10,
    /// Everything that found no row of its own; the value is its kind.
    Other = 15,
}

/// Values of [`Kind::Userspace`] where the reason says nothing.
pub mod userspace {
    /// A signal came: the vCPU was kicked out of the kernel.
    pub const INTERRUPTED: u32 = 0xffff_0000;
    /// The call failed.
    pub const FAILED: u32 = 0xffff_0001;
}

/// Kinds that there can be; a power of two.
pub const KINDS: usize = 16;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Key(pub u64);

const KIND_SHIFT: u32 = 60;
const WRITE_SHIFT: u32 = 59;
const SIZE_SHIFT: u32 = 55;
const SIZE_MASK: u64 = 15;
const VALUE: u64 = (1 << SIZE_SHIFT) - 1;

impl Key {
    /// No key: a free row, or no detail noted.
    pub const NONE: Self = Self(0);
    /// The row of an exit reason. All 32 bits of the code are kept: Intel flags a failed entry and
    /// others in the upper half.
    #[inline(always)]
    pub const fn reason(code: u32) -> Self {
        Self::plain(Kind::Reason, code as u64)
    }

    /// A row with a value alone, which has at most 55 bits.
    #[inline(always)]
    pub const fn plain(kind: Kind, value: u64) -> Self {
        Self((kind as u64) << KIND_SHIFT | value)
    }

    /// The row of an I/O port and direction (1 for OUT), for accesses of `size` bytes. Nothing is masked:
    /// KVM has 16 bits for a port, and sizes up to 8 (`emulator_pio_in_out`, arch/x86/kvm/x86.c).
    #[inline(always)]
    pub const fn pio(port: u64, write: u64, size: u64) -> Self {
        Self(Self::head(Kind::Pio, write, size) | port)
    }

    /// The row of a register in memory and direction (1 for a write), for accesses of `size` bytes, up to
    /// 8 (`struct kvm_mmio_fragment`, include/linux/kvm_host.h).
    #[inline(always)]
    pub const fn mmio(address: u64, write: u64, size: u64) -> Self {
        Self(Self::head(Kind::Mmio, write, size & SIZE_MASK) | address & VALUE & !3)
    }

    /// The row of a model-specific register and direction (1 for a write).
    #[inline(always)]
    pub const fn msr(number: u64, write: u64) -> Self {
        Self(Self::head(Kind::Msr, write, 0) | number)
    }

    /// The row for everything of this key's kind that found none of its own.
    #[inline(always)]
    pub const fn other(self) -> Self {
        Self::plain(Kind::Other, self.kind_number() as u64)
    }

    /// All but the value.
    #[inline(always)]
    const fn head(kind: Kind, write: u64, size: u64) -> u64 {
        (kind as u64) << KIND_SHIFT | write << WRITE_SHIFT | size << SIZE_SHIFT
    }

    /// What this row counts; `None` for a key that this version does not know.
    pub const fn kind(self) -> Option<Kind> {
        Self::kind_of(self.0 >> KIND_SHIFT)
    }

    /// The number of what this row counts, below [`KINDS`].
    #[inline(always)]
    pub const fn kind_number(self) -> usize {
        (self.0 >> KIND_SHIFT) as usize
    }

    /// The table that this row is in: its kind, or that of what [`Kind::Other`] has taken in.
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

    /// See [`Kind`].
    pub const fn value(self) -> u64 {
        self.0 & VALUE
    }

    /// Whether the guest wrote (OUT, WRMSR) rather than read.
    pub const fn is_write(self) -> bool {
        self.0 >> WRITE_SHIFT & 1 != 0
    }

    /// Bytes per access; `None` for a key that is no access.
    pub const fn size(self) -> Option<u8> {
        match (self.kind(), self.0 >> SIZE_SHIFT & SIZE_MASK) {
            (Some(Kind::Pio | Kind::Mmio), size) => Some(size as u8),
            _ => None,
        }
    }

    /// The same for accesses of any size.
    pub const fn of_any_size(self) -> Self {
        Self(self.0 & !(SIZE_MASK << SIZE_SHIFT))
    }

    /// Spreads keys over `1 << bits` homes (Fibonacci hashing): neighbouring ports and the two
    /// directions of one port land apart.
    #[inline(always)]
    pub const fn home(self, bits: u32) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
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
    fn what_found_no_row_keeps_its_kind() {
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
    fn a_register_in_memory_has_four_bytes() {
        assert_eq!(Key::mmio(0xfed0_00f0, 0, 4), Key::mmio(0xfed0_00f3, 0, 4));
        assert_eq!(Key::mmio(u64::MAX, 1, 8).value() & 3, 0);
        assert_eq!(Key::mmio(u64::MAX, 1, 8).size(), Some(8));
    }

    #[test]
    fn sizes_are_told_apart_until_they_are_not_wanted() {
        let (one, four) = (Key::pio(0x608, 0, 1), Key::pio(0x608, 0, 4));
        assert_ne!(one, four);
        assert_eq!(one.of_any_size(), four.of_any_size());
    }
}
