//! Rules about devices in QEMU.

use super::settings::{NO_VMPORT, VIRTIO_CONSOLE, VIRTIO_DISK, VIRTIO_NETWORK, VIRTIO_TABLET};
use crate::finding::{Confidence, Os, Pattern, Remedy, Rule, Threshold};

const EVENTFD: &str = "Linux, Documentation/virt/kvm/api.rst (KVM_IOEVENTFD)";
const FORMATDOMAIN: &str = "libvirt, docs/formatdomain.rst";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "serial-port",
        title: "the guest uses an emulated serial port",
        sign: "accesses to QEMU's device `serial`",
        patterns: &[Pattern::Device(&["serial"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Each byte is an exit to QEMU of its own, and before most of them the guest reads whether the \
                port is ready.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Reduce the output, or use a virtio console, which sends a whole buffer with one exit.",
            settings: &[VIRTIO_CONSOLE],
            inside: "Linux: console=hvc0 instead of console=ttyS0, and `quiet`.",
        }],
        confidence: Confidence::Medium,
        sources: &[
            "Linux, drivers/tty/serial/8250/8250_port.c (wait_for_lsr)",
            "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/163",
        ],
    },
    Rule {
        id: "pci-configuration",
        title: "the guest reads PCI configuration space repeatedly",
        sign: "accesses to QEMU's devices `pci-conf-idx` and `pci-conf-data`, ports 0xcf8 and 0xcfc, and to \
               `pcie-mmcfg-mmio`",
        patterns: &[Pattern::Device(&["pci-conf-idx", "pci-conf-data", "pcie-mmcfg-mmio"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Firmware and kernel do so during boot and when a device is plugged in. If it continues, a \
                program or driver in the guest polls.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If the guest is not booting, find the program or driver that polls.",
            settings: &[],
            inside: "Look for lspci or a monitoring agent in a loop, and for drivers that fail repeatedly.",
        }],
        confidence: Confidence::Low,
        sources: &["Linux, arch/x86/pci/direct.c", "Linux, arch/x86/pci/mmconfig_64.c"],
    },
    Rule {
        id: "debug-console",
        title: "firmware writes to a debug console",
        sign: "accesses to QEMU's device `isa-debugcon`, port 0x402 or 0xe9",
        patterns: &[Pattern::Device(&["isa-debugcon"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Each byte of debug output is an exit to QEMU. Firmware writes it if it detects the device.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Remove `-debugcon` and `-device isa-debugcon`, or use a release build of the firmware.",
            settings: &[],
            inside: "",
        }],
        confidence: Confidence::Medium,
        sources: &["QEMU, hw/char/debugcon.c", "edk2, OvmfPkg/README"],
    },
    Rule {
        id: "fw-cfg",
        title: "the guest reads QEMU's fw_cfg byte by byte",
        sign: "accesses to QEMU's device `fwcfg`, ports 0x510 and 0x511",
        patterns: &[Pattern::Device(&["fwcfg"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Firmware can load a kernel, an initramfs and ACPI tables this way during boot. With the DMA \
                interface it needs one exit for each of them.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If booting is too slow, use newer firmware, which uses the DMA interface at port 0x514.",
            settings: &[],
            inside: "",
        }],
        confidence: Confidence::Low,
        sources: &["QEMU, docs/specs/fw_cfg.rst"],
    },
    Rule {
        id: "vmport",
        title: "the guest polls VMware's I/O port",
        sign: "accesses to QEMU's device `vmport`, port 0x5658",
        patterns: &[Pattern::Device(&["vmport"])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "A driver for VMware's mouse, or VMware's tools, repeatedly query the hypervisor through a port.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Remove the port; a virtio or USB tablet replaces the mouse.",
            settings: &[NO_VMPORT],
            inside: "Uninstall VMware's tools and mouse driver.",
        }],
        confidence: Confidence::Medium,
        sources: &["QEMU, hw/i386/vmport.c", FORMATDOMAIN],
    },
    Rule {
        id: "emulated-network",
        title: "the network card is emulated",
        sign: "accesses to registers of QEMU's e1000, e1000e, igb, rtl8139, pcnet, ne2000, eepro100 or vmxnet3",
        patterns: &[Pattern::Device(&[
            "e1000*",
            "igb*",
            "rtl8139*",
            "pcnet*",
            "ne2000*",
            "eepro100*",
            "vmxnet3*",
        ])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Each register access of its driver takes the vCPU to QEMU and back, several times per packet \
                or burst of packets.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Use a virtio network card: its driver writes to memory and rings a doorbell that the \
                     kernel handles.",
            settings: &[VIRTIO_NETWORK],
            inside: "Windows: install the driver NetKVM from virtio-win first.",
        }],
        confidence: Confidence::High,
        sources: &[EVENTFD, FORMATDOMAIN],
    },
    Rule {
        id: "emulated-disk",
        title: "the disk controller is emulated",
        sign: "accesses to registers of QEMU's ide, ahci, lsi, megasas, mptsas or fdc",
        patterns: &[Pattern::Device(&[
            "ide*",
            "ahci*",
            "bmdma",
            "piix-bmdma",
            "lsi-*",
            "megasas-*",
            "mptsas-*",
            "fdc*",
        ])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Each register access of its driver takes the vCPU to QEMU and back, several times per request.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Use a virtio disk: its driver writes to memory and rings a doorbell that the kernel \
                     handles.",
            settings: &[VIRTIO_DISK],
            inside: "Windows: install the driver viostor from virtio-win first.",
        }],
        confidence: Confidence::High,
        sources: &[EVENTFD, FORMATDOMAIN],
    },
    Rule {
        id: "emulated-usb",
        title: "an emulated USB controller is busy",
        sign: "accesses to registers of QEMU's uhci, ehci or xhci",
        patterns: &[Pattern::Device(&[
            "uhci*",
            "ehci*",
            "xhci*",
            "capabilities",
            "operational",
            "runtime",
            "doorbell",
            "usb2 port*",
            "usb3 port*",
        ])],
        threshold: Threshold::Cost,
        fine: None,
        cause: "The guest's driver polls the controller for its devices, such as the tablet of graphical \
                consoles.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Remove the USB tablet and its controller, or use a virtio tablet.",
            settings: &[VIRTIO_TABLET],
            inside: "",
        }],
        confidence: Confidence::Medium,
        sources: &["QEMU, hw/usb/hcd-uhci.c and hcd-xhci.c", FORMATDOMAIN],
    },
    Rule {
        id: "emulated-device",
        title: "an unknown device in QEMU is busy",
        sign: "accesses to device memory without a known name, handled in userspace",
        patterns: &[Pattern::UnknownDevice],
        threshold: Threshold::Cost,
        fine: None,
        cause: "Each access to the registers of a device that QEMU emulates takes the vCPU to QEMU and back.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Identify the device: give QEMU a QMP socket for vmexit to use, or look up the address in \
                     `info mtree -f`. A virtio device does the same work with far fewer exits.",
            settings: &[],
            inside: "",
        }],
        confidence: Confidence::Low,
        sources: &["Linux, Documentation/virt/kvm/api.rst (KVM_EXIT_MMIO)"],
    },
    Rule {
        id: "doorbells",
        title: "the guest notifies virtio devices",
        sign: "doorbells, and accesses to QEMU's `virtio-pci-notify-…` that are handled in the kernel",
        patterns: &[Pattern::Doorbells],
        threshold: Threshold::Never,
        fine: Some("handled by ioeventfd, without an exit to userspace"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[EVENTFD, "Linux, arch/x86/kvm/vmx/vmx.c (handle_ept_misconfig)"],
    },
];
