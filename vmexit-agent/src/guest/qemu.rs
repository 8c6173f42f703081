//! What QEMU's command line and thread names tell.

/// The guest's name from `-name`: `-name win10`, `-name guest=win10,debug-threads=on`. A comma
/// within the name is written twice (QEMU's keyval syntax).
pub(super) fn name(arguments: &[String]) -> Option<String> {
    let at = arguments.iter().position(|a| a == "-name" || a == "--name")?;
    let options = split(arguments.get(at + 1)?);
    let explicit = options.iter().find_map(|option| option.strip_prefix("guest="));
    let implied = options.first().filter(|option| !option.contains('=')).map(String::as_str);
    explicit.or(implied).filter(|name| !name.is_empty()).map(str::to_owned)
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
