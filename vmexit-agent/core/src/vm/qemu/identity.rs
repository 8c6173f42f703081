//! Identity of a QEMU VM: name, UUID, machine type.

use super::options::{is, setting, values};
use crate::vm::Machine;

/// Guest name from `-name`: `-name win10`, `-name guest=win10,debug-threads=on`.
pub(in crate::vm) fn name(arguments: &[String]) -> Option<String> {
    let name = setting(values(arguments, &["name"]), "guest", true);
    name.filter(|name| !name.is_empty())
}

/// Machine type from `-machine` or `-M`: `-machine pc-q35-8.2,accel=kvm`, `-M type=q35`.
pub(in crate::vm) fn machine(arguments: &[String]) -> Machine {
    match setting(values(arguments, &["machine", "M"]), "type", true) {
        Some(name) if !name.is_empty() => Machine::Named(name),
        // A configuration file can set it too.
        _ if values(arguments, &["readconfig"]).next().is_some() => Machine::Unknown,
        _ => Machine::Default,
    }
}

/// UUID from `-uuid`, as set by libvirt, or `-smbios type=1,uuid=…`, as set by Proxmox VE. Both set
/// the same variable, so the last one applies (`qemu_init` in system/vl.c, `smbios_entry_add` in
/// hw/smbios/smbios.c).
pub(in crate::vm) fn uuid(arguments: &[String]) -> Option<String> {
    let mut given = arguments.windows(2).filter_map(|pair| {
        let value = || std::iter::once(pair[1].as_str());
        if is(&pair[0], "uuid") {
            return Some(pair[1].clone());
        }
        let system =
            is(&pair[0], "smbios") && setting(value(), "type", false).as_deref() == Some("1");
        if system { setting(value(), "uuid", false) } else { None }
    });
    given.rfind(|text| is_uuid(text)).map(|text| text.to_ascii_lowercase())
}

/// Whether the text is a UUID: 8-4-4-4-12 hexadecimal digits (`qemu_uuid_is_valid` in util/uuid.c).
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').map(str::len).eq(lengths) && text.split('-').all(hexadecimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn qemu_name_is_parsed_from_name_option() {
        let of = |option: &str| name(&["qemu".into(), "-name".into(), option.into()]);
        assert_eq!(of("win10").as_deref(), Some("win10"));
        assert_eq!(of("guest=win10,debug-threads=on").as_deref(), Some("win10"));
        assert_eq!(of("debug-threads=on,guest=win10").as_deref(), Some("win10"));
        assert_eq!(of("win10,process=qemu").as_deref(), Some("win10"));
        assert_eq!(of("guest=a,,b,,,debug-threads=on").as_deref(), Some("a,b,"));
        assert_eq!(of("debug-threads=on"), None);
        assert_eq!(of(""), None);
        assert_eq!(name(&words("qemu -name")), None);
        let twice = words("qemu -name guest=a --name debug-threads=on,guest=b");
        assert_eq!(name(&twice).as_deref(), Some("b"));
    }

    #[test]
    fn qemu_machine_is_parsed_from_machine_options() {
        let named = |name: &str| Machine::Named(name.into());
        let of = |line: &str| machine(&words(line));
        assert_eq!(of("qemu -machine pc-q35-8.2,accel=kvm -m 16"), named("pc-q35-8.2"));
        assert_eq!(of("qemu -M q35"), named("q35"));
        assert_eq!(of("qemu -machine accel=kvm,type=microvm"), named("microvm"));
        assert_eq!(of("qemu -M pc -machine usb=off -machine q35"), named("q35"));
        assert_eq!(of("qemu -machine accel=kvm"), Machine::Default);
        assert_eq!(of("qemu"), Machine::Default);
        assert_eq!(of("qemu -readconfig vm.cfg"), Machine::Unknown);
        assert_eq!(of("qemu -readconfig vm.cfg -M pc"), named("pc"));
    }

    #[test]
    fn qemu_uuid_is_parsed_from_uuid_and_smbios() {
        let (a, b) =
            ("c7a5fdbd-edaf-9455-926a-d65c16db1809", "11111111-2222-3333-4444-555555555555");
        let of = |line: String| uuid(&words(&line));
        assert_eq!(of(format!("qemu -uuid {a}")).as_deref(), Some(a));
        assert_eq!(of(format!("qemu -uuid {}", a.to_uppercase())).as_deref(), Some(a));
        assert_eq!(of(format!("qemu -smbios type=1,sku=x,uuid={a}")).as_deref(), Some(a));
        assert_eq!(of(format!("qemu -uuid {a} -smbios type=1,uuid={b}")).as_deref(), Some(b));
        assert_eq!(of(format!("qemu -smbios type=1,uuid={b} -uuid {a}")).as_deref(), Some(a));
        assert_eq!(of(format!("qemu -smbios type=2,uuid={a}")), None);
        assert_eq!(of("qemu -uuid \u{e9}7a5fdbd-edaf-9455-926a-d65c16db1809".into()), None);
        assert_eq!(of("qemu -uuid 1-2-3-4-5".into()), None);
        assert_eq!(of("qemu -uuid".into()), None);
    }
}
