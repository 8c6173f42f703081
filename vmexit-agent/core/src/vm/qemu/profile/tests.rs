//! Profiles of command lines as written by libvirt and by users.

use proptest::prelude::*;

use super::*;

fn profile(line: &str) -> Profile {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Profile::of(&arguments)
}

fn on(profile: &Profile) -> Vec<Feature> {
    profile.features.iter().filter(|&(_, &on)| on).map(|(&feature, _)| feature).collect()
}

/// Command line of libvirt for virt-manager's Windows 10.
const WINDOWS: &str = "/usr/bin/qemu-system-x86_64 -name guest=win10,debug-threads=on -S \
    -machine pc-q35-8.2,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram,hpet=off,acpi=on \
    -accel kvm -cpu host,migratable=on,hv-time=on,hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff \
    -m size=8388608k -rtc base=localtime,driftfix=slew -global kvm-pit.lost_tick_policy=delay \
    -device {\"driver\":\"e1000e\",\"netdev\":\"hostnet0\",\"id\":\"net0\"} \
    -device {\"driver\":\"ide-hd\",\"bus\":\"ide.0\",\"drive\":\"libvirt-1-format\"} \
    -device {\"driver\":\"isa-serial\",\"chardev\":\"charserial0\"}";

#[test]
fn profile_of_libvirt_windows_guest_matches_command_line() {
    use Feature::*;
    let profile = profile(WINDOWS);
    let expected = [
        HvTime,
        HvVapic,
        HvSpinlocks,
        Kvmclock,
        KvmPvEoi,
        KvmPvIpi,
        KvmPvUnhalt,
        X2apic,
        RtcLocaltime,
    ];
    assert_eq!(on(&profile), expected);
    assert_eq!((profile.has(HvStimer), profile.has(Hpet)), (Some(false), Some(false)));
    let devices: Vec<&str> = profile.devices.iter().map(String::as_str).collect();
    assert_eq!(devices, ["e1000e", "ide-hd", "isa-serial"]);
}

#[test]
fn profile_of_plain_machines_has_qemu_defaults() {
    use Feature::*;
    let plain =
        profile("qemu-system-x86_64 -enable-kvm -M q35 -m 1G -hda disk.img -serial mon:stdio");
    assert_eq!(on(&plain), [Kvmclock, KvmPvEoi, X2apic, Hpet, Vmport]);
    assert!(plain.devices.contains("ide-hd") && plain.devices.contains("isa-serial"));
    let micro =
        profile("qemu-system-x86_64 -M microvm,accel=kvm -cpu max -kernel vmlinux -serial none");
    assert_eq!((micro.has(Hpet), micro.has(DirectKernel)), (Some(false), Some(true)));
    assert_eq!(micro.has(KvmPvIpi), Some(true));
    assert!(micro.devices.is_empty());
    let rhel = profile("/usr/libexec/qemu-kvm -machine pc-q35-rhel9.4.0 -cpu host");
    assert_eq!(rhel.has(Hpet), None, "not QEMU's own machine");
    assert_eq!(profile(""), Profile::default());
}

#[test]
fn profile_enlightenment_is_recognized_in_all_forms() {
    let time = |cpu: &str| profile(&format!("qemu -cpu {cpu}")).has(Feature::HvTime);
    for cpu in [
        "host,hv-time",
        "host,hv_time",
        "host,+hv-time",
        "host,hv_time=on",
        "host,hv-time=off,hv-time=yes",
        "host,hv-passthrough",
        "host,hv-time=off,+hv_time",
        "qemu64 -cpu host,hv-time",
    ] {
        assert_eq!(time(cpu), Some(true), "{cpu}");
    }
    for cpu in [
        "host",
        "host,hv-times",
        "hv-time",
        "host,hv-time=off",
        "host,-hv-time,+hv-time",
        "host,hv-time -cpu host",
    ] {
        assert_eq!(time(cpu), Some(false), "{cpu}");
    }
}

#[test]
fn profile_switches_override_defaults() {
    use Feature::*;
    let has = |line: &str, feature| profile(line).has(feature);
    assert_eq!(has("qemu -no-hpet", Hpet), Some(false));
    assert_eq!(has("qemu -M q35 -machine hpet=off", Hpet), Some(false));
    assert_eq!(has("qemu -M q35,vmport=auto", Vmport), Some(true));
    assert_eq!(has("qemu -cpu host,-kvm_pv_unhalt", KvmPvUnhalt), Some(false));
    assert_eq!(has("qemu -cpu host,kvm=off", Kvmclock), Some(false));
    assert_eq!(has("qemu -cpu host,hv-spinlocks=0xffffffff", HvSpinlocks), Some(false));
    assert_eq!(has("qemu -cpu host,hv-spinlocks=4095", HvSpinlocks), Some(true));
    assert_eq!(has("qemu -cpu host,hv-apicv", HvAvic), Some(true));
    assert_eq!(has("qemu -cpu host,-x2apic", X2apic), Some(false));
}

#[test]
fn profile_survives_serialization_without_secrets() {
    let profile = profile(WINDOWS);
    let json = serde_json::to_string(&profile).unwrap();
    assert!(!json.contains("libvirt-1-format"), "{json}");
    assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
}

proptest! {
    #[test]
    fn profile_of_arbitrary_command_line_is_bounded(arguments in prop::collection::vec(any::<String>(), 0..6), text in any::<String>()) {
        let options = ["-cpu", "-machine", "-device", "-drive", "-rtc", "-nic"];
        let explicit = options.iter().flat_map(|option| [(*option).to_owned(), text.clone()]);
        let arguments: Vec<String> = arguments.into_iter().chain(explicit).collect();
        let profile = Profile::of(&arguments);
        prop_assert!(profile.devices.len() <= MOST_DEVICES);
    }
}
