//! Devices in QEMU.

use super::settings::{NO_VMPORT, VIRTIO_CONSOLE, VIRTIO_DISK, VIRTIO_NETWORK, VIRTIO_TABLET};
use crate::finding::{Confidence, Least, Os, Pattern, Remedy, Rule};

const EVENTFD: &str = "Linux, Documentation/virt/kvm/api.rst (KVM_IOEVENTFD)";
const FORMATDOMAIN: &str = "libvirt, docs/formatdomain.rst";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "serial-port",
        title: "the guest talks over an emulated serial port",
        sign: "accesses to QEMU's device `serial`",
        patterns: &[Pattern::Device(&["serial"])],
        least: Least::Cost,
        fine: None,
        cause: "Each byte goes to QEMU on its own, and before most of them the guest asks whether the port \
                is free.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Print less, or by virtio: a whole buffer with one exit.",
            settings: &[VIRTIO_CONSOLE],
            inside: "Linux: console=hvc0 in place of console=ttyS0, and `quiet`.",
        }],
        confidence: Confidence::Medium,
        sources: &[
            "Linux, drivers/tty/serial/8250/8250_port.c (wait_for_lsr)",
            "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/163",
        ],
    },
    Rule {
        id: "pci-configuration",
        title: "the guest keeps reading PCI configuration space",
        sign: "accesses to QEMU's devices `pci-conf-idx` and `pci-conf-data`, ports 0xcf8 and 0xcfc, and to \
               `pcie-mmcfg-mmio`",
        patterns: &[Pattern::Device(&["pci-conf-idx", "pci-conf-data", "pcie-mmcfg-mmio"])],
        least: Least::Cost,
        fine: None,
        cause: "Firmware and kernel do so while they boot, and when a device is plugged in. If it goes on, \
                something in the guest polls.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If the guest is not booting, find what polls.",
            settings: &[],
            inside: "Look for lspci or a monitoring agent in a loop, and for drivers that fail again and again.",
        }],
        confidence: Confidence::Low,
        sources: &["Linux, arch/x86/pci/direct.c", "Linux, arch/x86/pci/mmconfig_64.c"],
    },
    Rule {
        id: "debug-console",
        title: "firmware writes to a debug console",
        sign: "accesses to QEMU's device `isa-debugcon`, port 0x402 or 0xe9",
        patterns: &[Pattern::Device(&["isa-debugcon"])],
        least: Least::Cost,
        fine: None,
        cause: "Each byte of debug output is an exit to QEMU. Firmware finds out whether anybody listens.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Leave out `-debugcon` and `-device isa-debugcon`, or take firmware that was built for \
                   release.",
            settings: &[],
            inside: "",
        }],
        confidence: Confidence::Medium,
        sources: &["QEMU, hw/char/debugcon.c", "edk2, OvmfPkg/README"],
    },
    Rule {
        id: "fw-cfg",
        title: "the guest reads QEMU's configuration byte by byte",
        sign: "accesses to QEMU's device `fwcfg`, ports 0x510 and 0x511",
        patterns: &[Pattern::Device(&["fwcfg"])],
        least: Least::Cost,
        fine: None,
        cause: "A kernel, an initramfs and ACPI's tables can come this way while the guest boots. Firmware \
                that knows the DMA interface takes one exit for each of them.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "If boots are too slow, take newer firmware, which uses the DMA interface at port 0x514.",
            settings: &[],
            inside: "",
        }],
        confidence: Confidence::Low,
        sources: &["QEMU, docs/specs/fw_cfg.rst"],
    },
    Rule {
        id: "vmport",
        title: "the guest polls VMware's port",
        sign: "accesses to QEMU's device `vmport`, port 0x5658",
        patterns: &[Pattern::Device(&["vmport"])],
        least: Least::Cost,
        fine: None,
        cause: "A driver for VMware's mouse, or its tools, ask the hypervisor by a port over and over.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Leave the port out; a virtio or USB tablet does what the mouse did.",
            settings: &[NO_VMPORT],
            inside: "Uninstall VMware's tools and its mouse driver.",
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
        least: Least::Cost,
        fine: None,
        cause: "Each register that its driver touches takes the vCPU to QEMU and back, several for each \
                packet or burst of them.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Give it a virtio card: its driver writes to memory and rings a doorbell that the kernel \
                   answers.",
            settings: &[VIRTIO_NETWORK],
            inside: "Windows needs the driver NetKVM from virtio-win before that.",
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
        least: Least::Cost,
        fine: None,
        cause: "Each register that its driver touches takes the vCPU to QEMU and back, several for each \
                request.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Give it a virtio disk: its driver writes to memory and rings a doorbell that the kernel \
                   answers.",
            settings: &[VIRTIO_DISK],
            inside: "Windows needs the driver viostor from virtio-win before that.",
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
        least: Least::Cost,
        fine: None,
        cause: "The guest's driver polls the controller for the devices on it, such as the tablet that \
                consoles in a window have.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Leave out the USB tablet and its controller, or take virtio's tablet.",
            settings: &[VIRTIO_TABLET],
            inside: "",
        }],
        confidence: Confidence::Medium,
        sources: &["QEMU, hw/usb/hcd-uhci.c and hcd-xhci.c", FORMATDOMAIN],
    },
    Rule {
        id: "emulated-device",
        title: "a device in QEMU is busy whose name is not known",
        sign: "accesses to memory that nobody could name, answered in userspace",
        patterns: &[Pattern::UnknownDevice],
        least: Least::Cost,
        fine: None,
        cause: "Each access to a device's registers that QEMU emulates takes the vCPU there and back.",
        remedies: &[Remedy {
            os: Os::Unknown,
            action: "Find out which device it is: give QEMU a QMP socket that vmexit can ask, or look for the \
                   address in `info mtree -f`. Virtio's devices do the same work with far fewer exits.",
            settings: &[],
            inside: "",
        }],
        confidence: Confidence::Low,
        sources: &["Linux, Documentation/virt/kvm/api.rst (KVM_EXIT_MMIO)"],
    },
    Rule {
        id: "doorbells",
        title: "virtio devices are told of work",
        sign: "doorbells, and accesses to QEMU's `virtio-pci-notify-…` that end in the kernel",
        patterns: &[Pattern::Doorbells],
        least: Least::Never,
        fine: Some("by ioeventfd: the vCPU goes on at once"),
        cause: "",
        remedies: &[],
        confidence: Confidence::High,
        sources: &[EVENTFD, "Linux, arch/x86/kvm/vmx/vmx.c (handle_ept_misconfig)"],
    },
];
