//! What QEMU's command line tells.

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

/// Whether it is told to use KVM, in one of QEMU's ways.
pub(super) fn asks_for_kvm(arguments: &[String]) -> bool {
    // Those to try: `-accel kvm -accel tcg`, `-machine accel=kvm:tcg`.
    let accelerators = values(arguments, &["accel"])
        .filter_map(|value| setting(std::iter::once(value), "accel", true))
        .chain(setting(values(arguments, &["machine", "M"]), "accel", false));
    accelerators.into_iter().any(|names| names.split(':').any(|name| name == "kvm"))
        || arguments.iter().any(|argument| options::is(argument, "enable-kvm"))
}

/// Whether it has a monitor of any kind, with or without a socket.
pub(super) fn has_monitor(arguments: &[String]) -> bool {
    values(arguments, &["qmp", "qmp-pretty", "mon"]).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

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
