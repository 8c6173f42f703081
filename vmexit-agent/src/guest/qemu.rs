//! What QEMU's command line tells.

mod identity;
mod keyval;

use std::path::PathBuf;

use self::keyval::split;
pub(super) use self::{
    identity::{machine, name, uuid},
    keyval::{setting, values},
};

/// Whether it is told to use KVM, in one of QEMU's ways.
pub(super) fn asks_for_kvm(arguments: &[String]) -> bool {
    // Those to try: `-accel kvm -accel tcg`, `-machine accel=kvm:tcg`.
    let accelerators = values(arguments, &["accel"])
        .filter_map(|value| setting(std::iter::once(value), "accel", true))
        .chain(setting(values(arguments, &["machine", "M"]), "accel", false));
    accelerators.into_iter().any(|names| names.split(':').any(|name| name == "kvm"))
        || arguments.iter().any(|argument| keyval::is(argument, "enable-kvm"))
}

/// Whether it has a monitor of any kind, with or without a socket.
pub(super) fn has_monitor(arguments: &[String]) -> bool {
    values(arguments, &["qmp", "qmp-pretty", "mon"]).next().is_some()
}

/// The UNIX sockets on which QEMU speaks QMP: `-qmp unix:PATH,…`, or `-chardev socket,id=ID,path=PATH`
/// with `-mon chardev=ID,mode=control`, as libvirt writes it.
pub(super) fn qmp_sockets(arguments: &[String]) -> Vec<PathBuf> {
    let of = |option: &'static str| {
        arguments.windows(2).filter(move |pair| pair[0].trim_start_matches('-') == option).map(
            |pair| {
                let mut options = split(&pair[1]);
                let first = if options.is_empty() { String::new() } else { options.remove(0) };
                (first, options)
            },
        )
    };
    let value = |first: &str, options: &[String], key: &str| {
        let all = std::iter::once(first).chain(options.iter().map(String::as_str));
        let found = all.filter_map(|option| option.strip_prefix(key)?.strip_prefix('=')).next();
        found.map(str::to_owned)
    };
    let direct = of("qmp").filter_map(|(first, _)| first.strip_prefix("unix:").map(PathBuf::from));
    let control = of("mon")
        .filter(|(first, options)| value(first, options, "mode").as_deref() == Some("control"))
        .filter_map(|(first, options)| value(&first, &options, "chardev").or(Some(first)));
    let by_chardev = control.filter_map(|id| {
        of("chardev")
            .filter(|(kind, _)| kind == "socket")
            .find(|(kind, options)| value(kind, options, "id").as_ref() == Some(&id))
            .and_then(|(kind, options)| value(&kind, &options, "path"))
            .map(PathBuf::from)
    });
    direct.chain(by_chardev).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_have_qmp() {
        let line = "qemu -qmp unix:/run/a.sock,server=on,wait=off -chardev \
                    socket,id=charmonitor,path=/run/b,,c.sock,server=on -mon \
                    chardev=charmonitor,id=monitor,mode=control -mon chardev=other,mode=readline -qmp tcp:x:1";
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let sockets = qmp_sockets(&arguments);
        assert_eq!(sockets, [PathBuf::from("/run/a.sock"), PathBuf::from("/run/b,c.sock")]);
    }

    #[test]
    fn kvm_is_asked_for_in_many_ways() {
        let asks = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            asks_for_kvm(&arguments)
        };
        for line in [
            "x -enable-kvm",
            "x --enable-kvm -M pc",
            "x -accel kvm,thread=multi",
            "x -accel accel=kvm -accel tcg",
            "x -M q35,accel=kvm:tcg",
            "x -machine accel=kvm -M q35",
        ] {
            assert!(asks(line), "{line}");
        }
        for line in ["", "x", "x -accel tcg", "x -M q35,accel=tcg", "x -accel", "enable-kvm"] {
            assert!(!asks(line), "{line}");
        }
    }
}
