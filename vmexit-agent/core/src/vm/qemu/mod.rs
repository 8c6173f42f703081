//! Parsing of QEMU's command line.

mod identity;
mod monitors;
mod options;
mod profile;

pub(super) use self::{
    identity::{machine, name, uuid},
    monitors::of as monitors,
    options::{setting, values},
};
pub use self::{
    monitors::{Address, Monitor},
    profile::{Feature, Profile},
};

/// Whether the command line enables KVM, in any of QEMU's forms.
pub(super) fn uses_kvm(arguments: &[String]) -> bool {
    // Accelerators to try: `-accel kvm -accel tcg`, `-machine accel=kvm:tcg`.
    let accelerators = values(arguments, &["accel"])
        .filter_map(|value| setting(std::iter::once(value), "accel", true))
        .chain(setting(values(arguments, &["machine", "M"]), "accel", false));
    accelerators.into_iter().any(|names| names.split(':').any(|name| name == "kvm"))
        || arguments.iter().any(|argument| options::is(argument, "enable-kvm"))
}

/// Whether there is a monitor of any kind, with or without a socket.
pub(super) fn has_monitor(arguments: &[String]) -> bool {
    values(arguments, &["qmp", "qmp-pretty", "mon"]).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_accelerator_is_recognized_in_all_forms() {
        let enables = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            uses_kvm(&arguments)
        };
        for line in [
            "x -enable-kvm",
            "x --enable-kvm -M pc",
            "x -accel kvm,thread=multi",
            "x -accel accel=kvm -accel tcg",
            "x -M q35,accel=kvm:tcg",
            "x -machine accel=kvm -M q35",
        ] {
            assert!(enables(line), "{line}");
        }
        for line in ["", "x", "x -accel tcg", "x -M q35,accel=tcg", "x -accel", "enable-kvm"] {
            assert!(!enables(line), "{line}");
        }
    }
}
