//! QEMU's `pc` and `q35`, with the names of `info mtree -f` in 7.2 and 11.1; a test compares them
//! with recorded output. Rows with a source file are in no recorded output. Firmware chooses the
//! addresses of ACPI's registers: SeaBIOS uses 0x600 (src/fw/pciinit.c), and so does OVMF on `q35`.
//! On `pc` OVMF uses 0xb000 (OvmfPkg/Include/OvmfPlatforms.h), which is not guessed because other
//! devices can be there.

use super::{WellKnownMap, WellKnownRow};

pub(super) const MAP: WellKnownMap = WellKnownMap { ports: PORTS, memory: MEMORY };

#[rustfmt::skip]
const PORTS: &[WellKnownRow] = &[
    (0x0000, 0x0007, 0, "dma-chan"),
    (0x0008, 0x000f, 0, "dma-cont"),
    (0x0020, 0x0021, 0, "pic"),
    (0x0040, 0x0043, 0, "pit"),
    (0x0060, 0x0060, 0, "i8042-data"),
    (0x0061, 0x0061, 0, "pcspk"),
    (0x0064, 0x0064, 0, "i8042-cmd"),
    (0x0070, 0x0070, 0, "rtc-index"),
    (0x0071, 0x0071, 1, "rtc"),
    (0x007e, 0x007f, 0, "kvmvapic"),
    (0x0080, 0x0080, 0, "ioport80"),
    (0x0081, 0x0083, 0, "dma-page"),
    (0x0087, 0x0087, 0, "dma-page"),
    (0x0089, 0x008b, 0, "dma-page"),
    (0x008f, 0x008f, 0, "dma-page"),
    (0x0092, 0x0092, 0, "port92"),
    (0x00a0, 0x00a1, 0, "pic"),
    (0x00b2, 0x00b3, 0, "apm-io"),
    (0x00c0, 0x00cf, 0, "dma-chan"),
    (0x00d0, 0x00df, 0, "dma-cont"),
    (0x00e9, 0x00e9, 0, "isa-debugcon"),     // hw/char/debugcon.c, its default
    (0x00f0, 0x00f0, 0, "ioportF0"),
    (0x0170, 0x0177, 0, "ide"),
    (0x01ce, 0x01d1, 0, "vbe"),              // the Bochs display interface
    (0x01f0, 0x01f7, 0, "ide"),
    (0x0278, 0x027f, 0, "parallel"),         // hw/char/parallel-isa.c
    (0x02e8, 0x02ef, 0, "serial"),           // hw/char/serial-isa.c
    (0x02f8, 0x02ff, 0, "serial"),           // hw/char/serial-isa.c
    (0x0376, 0x0376, 0, "ide"),
    (0x0378, 0x037f, 0, "parallel"),         // hw/char/parallel-isa.c
    (0x03b4, 0x03b5, 0, "vga"),
    (0x03ba, 0x03ba, 0, "vga"),
    (0x03c0, 0x03cf, 0, "vga"),
    (0x03d4, 0x03d5, 0, "vga"),
    (0x03da, 0x03da, 0, "vga"),
    (0x03e8, 0x03ef, 0, "serial"),           // hw/char/serial-isa.c
    (0x03f1, 0x03f5, 0, "fdc"),
    (0x03f6, 0x03f6, 0, "ide"),
    (0x03f7, 0x03f7, 0, "fdc"),
    (0x03f8, 0x03ff, 0, "serial"),
    (0x0402, 0x0402, 0, "isa-debugcon"),     // debug output of OVMF and SeaBIOS
    (0x04d0, 0x04d0, 0, "elcr"),
    (0x04d1, 0x04d1, 0, "elcr"),
    (0x0501, 0x0502, 0, "isa-debug-exit"),   // hw/misc/debugexit.c, its default
    (0x0505, 0x0505, 0, "pvpanic"),
    (0x0510, 0x0511, 0, "fwcfg"),
    (0x0514, 0x051b, 0, "fwcfg.dma"),
    (0x0600, 0x0603, 0, "acpi-evt"),
    (0x0604, 0x0605, 0, "acpi-cnt"),
    (0x0608, 0x060b, 0, "acpi-tmr"),
    (0x0620, 0x062f, 0, "acpi-gpe0"),        // q35
    (0x0630, 0x0637, 0, "acpi-smi"),         // q35
    (0x0660, 0x067f, 0, "sm-tco"),           // q35
    (0x0700, 0x073f, 0, "pm-smbus"),
    (0x0a00, 0x0a17, 0, "acpi-mem-hotplug"), // hw/acpi/memory_hotplug.c
    (0x0a18, 0x0a1b, 0, "nvdimm-acpi-io"),   // hw/acpi/nvdimm.c
    (0x0cc0, 0x0cd7, 0, "acpi-pci-hotplug"), // q35
    (0x0cd8, 0x0ce3, 0, "acpi-cpu-hotplug"), // q35
    (0x0cf8, 0x0cf8, 0, "pci-conf-idx"),
    (0x0cfc, 0x0cff, 0, "pci-conf-data"),
    (0x5658, 0x5658, 0, "vmport"),
    (0xae00, 0xae17, 0, "acpi-pci-hotplug"), // pc
    (0xaf00, 0xaf0b, 0, "acpi-cpu-hotplug"), // pc
    (0xafe0, 0xafe3, 0, "acpi-gpe0"),        // pc
];

#[rustfmt::skip]
const MEMORY: &[WellKnownRow] = &[
    (0x000a_0000, 0x000b_ffff, 0, "vga-lowmem"),
    (0xb000_0000, 0xbfff_ffff, 0, "pcie-mmcfg-mmio"), // q35 with SeaBIOS
    (0xfec0_0000, 0xfec0_0fff, 0, "ioapic"),
    (0xfed0_0000, 0xfed0_03ff, 0, "hpet"),
    (0xfed1_c000, 0xfed1_ffff, 0, "lpc-rcrb-mmio"),   // q35
    (0xfed4_0000, 0xfed4_4fff, 0, "tpm-tis-mmio"),    // include/hw/acpi/tpm.h; TPM CRB is there too
    (0xfed9_0000, 0xfed9_0fff, 0, "intel_iommu"),     // include/hw/i386/intel_iommu.h
    (0xfee0_0000, 0xfeef_ffff, 0, "apic-msi"),
];
