//! Names of VMs of VMMs other than QEMU, and whether libvirt started them.

use std::path::Path;

use super::{Vmm, qemu};

/// Suffix of libvirt's pipe for a Cloud Hypervisor's events: `NAME-event-monitor-fifo`
/// (`virCHMonitorNew` in src/ch/ch_monitor.c).
const LIBVIRT_EVENTS: &str = "-event-monitor-fifo";

/// Name of the VM, if its command line has one.
pub(super) fn name(vmm: Vmm, arguments: &[String]) -> Option<String> {
    let name = match vmm {
        Vmm::Qemu => qemu::name(arguments),
        Vmm::CloudHypervisor => libvirt_name(arguments)
            .or_else(|| {
                // parse_api_socket in cloud-hypervisor/src/main.rs: `path=PATH`, `fd=N`, or only a path.
                let socket = option(arguments, "--api-socket")?;
                let path = socket.split(',').find_map(|part| part.strip_prefix("path="));
                path.or_else(|| Some(socket).filter(|socket| !socket.starts_with("fd=")))
            })
            .map(str::to_owned),
        // src/firecracker/src/main.rs. The jailer always passes an ID; its VMs have the same path.
        Vmm::Firecracker => {
            option(arguments, "--id").or_else(|| option(arguments, "--api-sock")).map(str::to_owned)
        }
        Vmm::Crosvm | Vmm::Kvmtool => option(arguments, "--name").map(str::to_owned),
        Vmm::Other => None,
    };
    name.filter(|name| !name.is_empty())
}

/// Whether libvirt started the VM.
pub(super) fn is_libvirt_domain(vmm: Vmm, arguments: &[String]) -> bool {
    match vmm {
        // Every domain has this monitor (`qemuBuildMonitorCommandLine` in src/qemu/qemu_command.c).
        Vmm::Qemu => qemu::values(arguments, &["mon"]).any(|value| {
            let chardev = qemu::setting(std::iter::once(value), "chardev", true);
            chardev.as_deref() == Some("charmonitor")
        }),
        Vmm::CloudHypervisor => libvirt_name(arguments).is_some(),
        _ => false,
    }
}

fn libvirt_name(arguments: &[String]) -> Option<&str> {
    let pipe = option(arguments, "--event-monitor")?.strip_prefix("path=")?;
    Path::new(pipe).file_name()?.to_str()?.strip_suffix(LIBVIRT_EVENTS)
}

/// Value of a long option: `--id a` or `--id=a`, before any `--`. The last one applies.
fn option<'a>(arguments: &'a [String], option: &str) -> Option<&'a str> {
    let ours = arguments.split(|argument| argument == "--").next()?;
    let mut values = ours.iter().enumerate().filter_map(|(at, argument)| {
        match argument.strip_prefix(option)? {
            "" => ours.get(at + 1).map(String::as_str),
            more => more.strip_prefix('='),
        }
    });
    values.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn of(vmm: Vmm, line: &str) -> (Option<String>, bool) {
        (name(vmm, &words(line)), is_libvirt_domain(vmm, &words(line)))
    }

    #[test]
    fn cloud_hypervisor_name_is_api_socket_or_libvirt_domain() {
        let named = |name: &str| (Some(name.to_owned()), false);
        let of = |line| of(Vmm::CloudHypervisor, line);
        assert_eq!(of("ch --api-socket /run/a.sock --kernel k"), named("/run/a.sock"));
        assert_eq!(of("ch --api-socket=path=/run/a.sock"), named("/run/a.sock"));
        assert_eq!(of("ch --api-socket fd=3"), (None, false));
        assert_eq!(of("ch --kernel k"), (None, false));
        let line =
            "ch --api-socket fd=23 --event-monitor path=/run/libvirt/ch/web-1-event-monitor-fifo";
        assert_eq!(of(line), (Some("web-1".into()), true));
    }

    #[test]
    fn firecracker_name_is_id_or_api_socket() {
        let of = |line| of(Vmm::Firecracker, line).0;
        assert_eq!(of("fc --id 551e7604 --api-sock /run/fc.sock").as_deref(), Some("551e7604"));
        assert_eq!(of("fc --api-sock /run/fc.sock").as_deref(), Some("/run/fc.sock"));
        assert_eq!(of("fc --no-api -- --id 1"), None);
        assert_eq!(of("fc --id"), None);
    }

    #[test]
    fn crosvm_and_kvmtool_name_is_name_option() {
        assert_eq!(of(Vmm::Crosvm, "crosvm run --name arc k").0.as_deref(), Some("arc"));
        assert_eq!(of(Vmm::Kvmtool, "lkvm run --name=web").0.as_deref(), Some("web"));
        assert_eq!(of(Vmm::Kvmtool, "lkvm run --names web").0, None);
        assert_eq!(of(Vmm::Other, "other --name a -name b --id c").0, None);
    }

    #[test]
    fn libvirt_qemu_is_recognized_by_its_monitor() {
        let line = "qemu -name guest=a -chardev socket,id=charmonitor,fd=27,server=on,wait=off \
                    -mon chardev=charmonitor,id=monitor,mode=control";
        assert_eq!(of(Vmm::Qemu, line), (Some("a".into()), true));
        let line = "qemu -name a -chardev socket,id=charmonitor,path=/x -mon chardev=mon0";
        assert_eq!(of(Vmm::Qemu, line), (Some("a".into()), false));
    }
}
