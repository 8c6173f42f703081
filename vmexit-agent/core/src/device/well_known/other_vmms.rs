//! Layouts of other VMMs, from their sources of August 2026: devices with a fixed address wherever
//! present. The addresses of KVM's own PIC and PIT are from arch/x86/kvm/i8259.c and i8254.c.

use super::{WellKnownMap, WellKnownRow};

/// Sources: src/vmm/src/device_manager/legacy.rs, devices/pci/pci_segment.rs and
/// arch/x86_64/layout.rs.
pub(super) const FIRECRACKER: WellKnownMap = WellKnownMap {
    ports: &[
        (0x0020, 0x0021, 0, "pic"),
        (0x0040, 0x0043, 0, "pit"),
        (0x0060, 0x0060, 0, "i8042-data"),
        (0x0061, 0x0061, 0, "pcspk"),
        (0x0064, 0x0064, 0, "i8042-cmd"),
        (0x00a0, 0x00a1, 0, "pic"),
        (0x03f8, 0x03ff, 0, "serial"),
        (0x04d0, 0x04d1, 0, "elcr"),
        (0x0cf8, 0x0cfb, 0, "pci-conf-idx"),
        (0x0cfc, 0x0cff, 0, "pci-conf-data"),
    ],
    memory: &[(0xeec0_0000, 0xeecf_ffff, 0, "pcie-mmcfg-mmio"), IOAPIC, APIC],
};

/// Sources: vmm/src/device_manager.rs, devices/src/debug_console.rs, pci/src/lib.rs and
/// arch/src/x86_64/layout.rs.
pub(super) const CLOUD_HYPERVISOR: WellKnownMap = WellKnownMap {
    ports: &[
        (0x0064, 0x0064, 0, "i8042-cmd"),
        (0x0070, 0x0070, 0, "rtc-index"),
        (0x0071, 0x0071, 1, "rtc"),
        (0x0080, 0x0080, 0, "ioport80"),
        (0x00e9, 0x00e9, 0, "isa-debugcon"),
        (0x03f8, 0x03ff, 0, "serial"),
        (0x0402, 0x0402, 0, "isa-debugcon"),
        (0x0600, 0x0603, 0, "acpi-shutdown"),
        (0x0608, 0x060b, 0, "acpi-tmr"),
        (0x0cf8, 0x0cfb, 0, "pci-conf-idx"),
        (0x0cfc, 0x0cff, 0, "pci-conf-data"),
    ],
    memory: &[
        (0xe800_0000, 0xf7ff_ffff, 0, "pcie-mmcfg-mmio"),
        (0xfec0_0000, 0xfec0_001f, 0, "ioapic"),
        APIC,
    ],
};

/// Sources: x86_64/src/lib.rs, arch/src/serial.rs and devices/src/fw_cfg.rs.
pub(super) const CROSVM: WellKnownMap = WellKnownMap {
    ports: &[
        (0x0020, 0x0021, 0, "pic"),
        (0x0040, 0x0043, 0, "pit"),
        (0x0064, 0x0064, 0, "i8042-cmd"),
        (0x0070, 0x0070, 0, "rtc-index"),
        (0x0071, 0x0071, 1, "rtc"),
        (0x00a0, 0x00a1, 0, "pic"),
        (0x02e8, 0x02ef, 0, "serial"),
        (0x02f8, 0x02ff, 0, "serial"),
        (0x03e8, 0x03ef, 0, "serial"),
        (0x03f8, 0x03ff, 0, "serial"),
        (0x0402, 0x0402, 0, "isa-debugcon"),
        (0x04d0, 0x04d1, 0, "elcr"),
        (0x0510, 0x0513, 0, "fwcfg"),
        (0x0cf8, 0x0cfb, 0, "pci-conf-idx"),
        (0x0cfc, 0x0cff, 0, "pci-conf-data"),
    ],
    memory: &[IOAPIC, APIC],
};

/// KVM's IOAPIC and APIC: arch/x86/kvm/ioapic.h, and APIC_DEFAULT_PHYS_BASE.
const IOAPIC: WellKnownRow = (0xfec0_0000, 0xfec0_00ff, 0, "ioapic");
const APIC: WellKnownRow = (0xfee0_0000, 0xfeef_ffff, 0, "apic-msi");
