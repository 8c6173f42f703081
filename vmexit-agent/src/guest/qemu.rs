//! What QEMU's command line and thread names tell.

use std::path::PathBuf;

/// The guest's name from `-name`: `-name win10`, `-name guest=win10,debug-threads=on`. A comma
/// within the name is written twice (QEMU's keyval syntax).
pub(super) fn name(arguments: &[String]) -> Option<String> {
    let at = arguments.iter().position(|a| a == "-name" || a == "--name")?;
    let options = split(arguments.get(at + 1)?);
    let explicit = options.iter().find_map(|option| option.strip_prefix("guest="));
    let implied = options.first().filter(|option| !option.contains('=')).map(String::as_str);
    explicit.or(implied).filter(|name| !name.is_empty()).map(str::to_owned)
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

/// Splits at single commas; a doubled one stands for itself.
fn split(text: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            options.push(String::new());
        } else if let Some(last) = options.last_mut() {
            last.push(c);
        }
    }
    options
}

/// The vCPU number in a thread's name, `CPU 3/KVM` (with `debug-threads=on`, as libvirt does).
pub(super) fn vcpu_of_thread(comm: &str) -> Option<u32> {
    comm.strip_prefix("CPU ")?.strip_suffix("/KVM")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name_option: &str) -> Option<String> {
        name(&["qemu-system-x86_64".into(), "-name".into(), name_option.into()])
    }

    #[test]
    fn both_syntaxes() {
        assert_eq!(of("win10").as_deref(), Some("win10"));
        assert_eq!(of("guest=win10,debug-threads=on").as_deref(), Some("win10"));
        assert_eq!(of("debug-threads=on,guest=win10").as_deref(), Some("win10"));
        assert_eq!(of("win10,process=qemu").as_deref(), Some("win10"));
        assert_eq!(of("debug-threads=on"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn doubled_commas() {
        assert_eq!(of("guest=a,,b,,,debug-threads=on").as_deref(), Some("a,b,"));
    }

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
    fn nothing_follows() {
        assert_eq!(name(&["qemu".into(), "-name".into()]), None);
    }

    #[test]
    fn thread_names() {
        assert_eq!(vcpu_of_thread("CPU 12/KVM"), Some(12));
        assert_eq!(vcpu_of_thread("CPU /KVM"), None);
        assert_eq!(vcpu_of_thread("IO mon_iothread"), None);
    }
}
