//! QEMU's control monitors, from its command line.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    path::PathBuf,
};

use super::options::{QemuOptions, values};
use crate::escape;

/// A way to query a VMM. Its `Display` is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// A QMP socket on which QEMU listens.
    Qmp(Address),
    /// A domain whose monitor belongs to libvirt, which must be asked instead. The name is
    /// untrusted: escape it before printing.
    Libvirt(String),
}

/// Address of a UNIX socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A path as seen by the VMM's process: from its root, or from its working directory, which
    /// changes if QEMU daemonizes (`os_setup_post`, `os-posix.c`).
    Path(PathBuf),
    /// A name in the abstract namespace of the VMM's network namespace, without the leading null
    /// byte. With `tight=off` null bytes pad it to the full length.
    Abstract(String),
    /// A path as seen by this process, given by its user rather than by a command line: the
    /// process that listens there is trusted to be the VMM.
    Here(PathBuf),
}

/// Maximum number of sockets per VM. One is enough for QEMU; the limit bounds the work for hostile
/// command lines.
const MOST_SOCKETS: usize = 4;

/// Length of a UNIX socket's address, and so the longest path that QEMU can bind (`sun_path`,
/// `include/uapi/linux/un.h`).
const MAX_PATH: usize = 108;

/// Longest name of a libvirt domain, bytes: `NAME.xml` is a file (`NAME_MAX`,
/// include/uapi/linux/limits.h).
const MAX_DOMAIN: usize = 255 - ".xml".len();

/// ID of the chardev of libvirt's monitor (`qemuBuildMonitorCommandLine`, libvirt's
/// `src/qemu/qemu_command.c`).
const LIBVIRT_CHARDEV: &str = "charmonitor";

/// Monitors of a QEMU with these arguments, those without side effects first.
pub(in crate::vm) fn of(arguments: &[String], name: Option<&str>) -> Vec<Monitor> {
    let (libvirt, own): (Vec<_>, Vec<_>) =
        control_chardevs(arguments).into_iter().partition(belongs_to_libvirt);
    let sockets = own.iter().filter_map(address).map(Monitor::Qmp).take(MOST_SOCKETS);
    // libvirt's own socket is never used: it accepts one client, so a libvirtd that restarts at that
    // moment could not connect and would consider the domain dead.
    let domain = name.filter(|name| !libvirt.is_empty() && name.len() <= MAX_DOMAIN);
    let domain = domain.map(|name| Monitor::Libvirt(name.to_owned()));
    sockets.chain(domain).collect()
}

/// Character devices on which QEMU speaks QMP: `-qmp unix:PATH,…` and `-qmp chardev:ID`
/// (`monitor_parse`, QEMU's `softmmu/vl.c`), `-mon chardev=ID,mode=control`.
fn control_chardevs(arguments: &[String]) -> Vec<QemuOptions> {
    let chardevs = chardevs_by_id(arguments);
    // Parsed again when found, so that the options of all chardevs are never in memory at once.
    let by_id = |id: &str| Some(QemuOptions::parse(chardevs.get(id)?, "backend"));
    let short = values(arguments, &["qmp", "qmp-pretty"]);
    let short = short.filter_map(|text| match text.strip_prefix("chardev:") {
        Some(id) => by_id(id),
        None => Some(QemuOptions::parse(text.strip_prefix("unix:")?, "path")),
    });
    let long = values(arguments, &["mon"])
        .map(|text| QemuOptions::parse(text, "chardev"))
        .filter(|mon| mon.get("mode") == Some("control"))
        .filter_map(|mon| by_id(mon.get("chardev")?));
    short.chain(long).take(2 * MOST_SOCKETS).collect()
}

/// Options of the chardevs by ID. Of several with the same ID the first is used. A search of its own for each
/// monitor would take time by the square of a hostile command line's length.
fn chardevs_by_id(arguments: &[String]) -> HashMap<String, &str> {
    let mut chardevs = HashMap::new();
    for text in values(arguments, &["chardev"]) {
        if let Some(id) = QemuOptions::parse(text, "backend").get("id")
            && let Entry::Vacant(entry) = chardevs.entry(id.to_owned())
        {
            entry.insert(text);
        }
    }
    chardevs
}

/// Whether a chardev is that of libvirt's monitor: by its ID, and by having an inherited socket or
/// a path in libvirt's directories, the system's or a user's.
fn belongs_to_libvirt(chardev: &QemuOptions) -> bool {
    let path = chardev.get("path");
    chardev.get("id") == Some(LIBVIRT_CHARDEV)
        && path.is_none_or(|path| path.contains("/libvirt/qemu/"))
}

/// Address to connect to; `None` if QEMU itself connects, or inherited an open socket (`fd=`).
fn address(chardev: &QemuOptions) -> Option<Address> {
    // Only QMP's `chardev-add`, which JSON follows, has servers by default (`qapi/char.json`).
    if !chardev.is_on("server", chardev.json) {
        return None;
    }
    let path = chardev.get("path").filter(|path| path.len() <= MAX_PATH)?;
    if !chardev.is_on("abstract", false) {
        return (!path.is_empty()).then(|| Address::Path(path.into()));
    }
    // `unix_listen_saddr` (QEMU's `util/qemu-sockets.c`).
    let length = if chardev.is_on("tight", true) { path.len() } else { MAX_PATH - 1 };
    let fill = "\0".repeat(length.saturating_sub(path.len()));
    Some(Address::Abstract(path.to_owned() + &fill))
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qmp(Address::Path(path) | Address::Here(path)) => {
                write!(f, "QMP at {}", escape::path(path))
            }
            // The form of `ss` and /proc/net/unix.
            Self::Qmp(Address::Abstract(name)) => {
                write!(f, "QMP at @{}", escape::safe(name.trim_end_matches('\0')))
            }
            Self::Libvirt(domain) => write!(f, "libvirt domain {}", escape::safe(domain)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        of(&arguments, Some("win10")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn qmp_sockets_of_qmp_and_mon_options_are_found() {
        let line = "qemu -qmp unix:/run/a.sock,server=on,wait=off -chardev \
                    socket,id=m,path=/run/b,,c.sock,server=on -mon \
                    chardev=m,id=monitor,mode=control -mon chardev=other,mode=readline -qmp tcp:x:1";
        assert_eq!(shown(line), ["QMP at /run/a.sock", "QMP at /run/b,c.sock"]);
    }

    #[test]
    fn qmp_sockets_in_old_forms_are_found() {
        assert_eq!(shown("-qmp-pretty unix:a.sock,server,nowait"), ["QMP at a.sock"]);
        assert_eq!(shown("-qmp unix:server=on,path=b"), ["QMP at b"]);
        let chardev = "-chardev socket,id=c,server=yes,path=/c";
        assert_eq!(shown(&format!("--qmp chardev:c {chardev}")), ["QMP at /c"]);
        assert_eq!(shown(&format!("-mon c,mode=control {chardev}")), ["QMP at /c"]);
    }

    #[test]
    fn qmp_socket_in_json_chardev_is_found() {
        let chardev = r#"{"backend":"socket","id":"m","path":"/j","wait":false}"#;
        assert_eq!(shown(&format!("-chardev {chardev} -mon m,mode=control")), ["QMP at /j"]);
        let client = chardev.replace("\"wait\"", "\"server\"");
        assert!(shown(&format!("-chardev {client} -mon m,mode=control")).is_empty());
    }

    #[test]
    fn abstract_socket_name_is_padded_unless_tight() {
        assert_eq!(shown("-qmp unix:q,abstract=on,server=on"), ["QMP at @q"]);
        let arguments = ["-qmp", "unix:q,abstract=on,tight=off,server=on"].map(str::to_owned);
        let Some(Monitor::Qmp(Address::Abstract(name))) = of(&arguments, None).pop() else {
            panic!("no abstract address");
        };
        assert_eq!((name.len(), name.trim_end_matches('\0')), (107, "q"));
    }

    #[test]
    fn monitors_without_listening_socket_are_omitted() {
        for line in [
            "-qmp unix:/run/manager.sock",
            "-qmp unix:/run/manager.sock,server=off,reconnect=1",
            "-qmp stdio -monitor unix:/run/hmp,server=on",
            "-chardev socket,id=m,fd=9,server=on,wait=off -mon m,mode=control",
            "-chardev socket,id=m,path=/x,server=on -mon m,mode=readline",
            "-mon m,mode=control",
            "-qmp unix:,server=on",
        ] {
            assert_eq!(shown(line), [""; 0], "{line}");
        }
        let long = format!("-qmp unix:/{},server=on", "x".repeat(MAX_PATH));
        assert_eq!(shown(&long), [""; 0]);
    }

    #[test]
    fn libvirt_monitor_is_asked_through_libvirt_and_last() {
        let mon = "-mon chardev=charmonitor,id=monitor,mode=control";
        for socket in [
            "fd=24",
            "path=/var/lib/libvirt/qemu/domain-1-win10/monitor.sock",
            "path=/home/me/.config/libvirt/qemu/lib/domain-1-win10/monitor.sock",
        ] {
            let line = format!("-chardev socket,id=charmonitor,{socket},server=on,wait=off {mon}");
            assert_eq!(shown(&line), ["libvirt domain win10"]);
            let own = format!("{line} -qmp unix:/own,server=on");
            assert_eq!(shown(&own), ["QMP at /own", "libvirt domain win10"]);
        }
        let alike = format!("-chardev socket,id=charmonitor,path=/x,server=on {mon}");
        assert_eq!(shown(&alike), ["QMP at /x"]);
    }

    /// A megabyte of words. With time by the square of its length it would take minutes.
    #[test]
    fn monitors_of_many_unknown_chardevs_take_linear_time() {
        let line = "-qmp chardev:x -mon y,mode=control -chardev a,id=b ".repeat(20_000);
        let begun = std::time::Instant::now();
        assert_eq!(shown(&line), [""; 0]);
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }

    #[test]
    fn first_of_chardevs_with_same_id_is_used() {
        let chardevs =
            ["/a", "/b"].map(|path| format!("-chardev socket,id=c,server=on,path={path}"));
        assert_eq!(shown(&format!("{} -qmp chardev:c", chardevs.join(" "))), ["QMP at /a"]);
    }

    #[test]
    fn monitors_of_long_command_line_are_limited() {
        let line = "-qmp unix:/x,server=on ".repeat(1000);
        assert_eq!(shown(&line).len(), MOST_SOCKETS);
    }
}
