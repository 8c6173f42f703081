//! Table of the end-to-end test programs: tier of each, and programs that its tests start. All other tests of the
//! workspace are in the unit tier.

use std::fmt;

use crate::setup::Need::{
    self, Browser, Libvirt, Modules, OtherDebian, Packaging, Perf, Qemu, Tmux,
};

/// Package of the end-to-end tests.
pub const PACKAGE: &str = "vmexit-tests";

/// Kind of test, by its needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Needs neither root, KVM nor QEMU.
    Unit,
    /// Needs root, this machine's KVM, and QEMU.
    Native,
    /// Needs the emulated labs, and neither root nor KVM.
    Lab,
}

impl Tier {
    /// All tiers, cheapest first.
    pub const ALL: [Self; 3] = [Self::Unit, Self::Native, Self::Lab];

    /// Returns the tier of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Native => "native",
            Self::Lab => "lab",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A test program of `tests/tests`.
#[derive(Debug)]
pub struct TestProgram {
    /// Name of its file without the extension.
    pub name: &'static str,
    /// Tier of its tests.
    pub tier: Tier,
    /// Programs that it starts.
    pub needs: &'static [Need],
    /// Whether the full run repeats it on the newest kernel.
    pub on_newest: bool,
}

/// All test programs of `tests/tests`, by name.
pub const TEST_PROGRAMS: &[TestProgram] = &[
    lab("amd", &[Qemu, Modules, Perf]).on_newest(),
    native("dashboard", &[Qemu]),
    native("devices", &[Qemu]),
    native("dist", &[Packaging, OtherDebian]),
    native("faults", &[Qemu]),
    native("guest", &[Qemu]),
    lab("intel", &[Qemu, Modules]),
    lab("lab", &[Qemu, Modules]),
    native("libvirt", &[Qemu, Libvirt]),
    lab("linux", &[Qemu, Modules]),
    native("monitor", &[Qemu]),
    native("native", &[Qemu]),
    native("page", &[Browser]),
    native("prometheus", &[Qemu]),
    native("record_native", &[Qemu, Tmux]),
    lab("recording_lab", &[Qemu, Modules, Perf]),
    lab("sampler", &[Qemu, Modules]),
    native("serve", &[Qemu]),
    native("soak", &[Qemu]),
    native("tenants", &[]),
    lab("top_lab", &[Qemu, Modules, Tmux]).on_newest(),
    native("top_native", &[Qemu, Tmux]),
    lab("trace", &[Qemu, Modules]).on_newest(),
    native("vms", &[Qemu]),
];

const fn native(name: &'static str, needs: &'static [Need]) -> TestProgram {
    TestProgram { name, tier: Tier::Native, needs, on_newest: false }
}

const fn lab(name: &'static str, needs: &'static [Need]) -> TestProgram {
    TestProgram { name, tier: Tier::Lab, needs, on_newest: false }
}

impl TestProgram {
    const fn on_newest(mut self) -> Self {
        self.on_newest = true;
        self
    }
}

/// Returns the row of a test program.
pub fn find(name: &str) -> Option<&'static TestProgram> {
    TEST_PROGRAMS.iter().find(|program| program.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::tool::root;

    #[test]
    fn test_programs_match_files_of_tests() {
        let files = fs::read_dir(root().join("tests/tests")).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let files =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        let names = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        let rows: Vec<String> =
            TEST_PROGRAMS.iter().map(|program| program.name.to_owned()).collect();
        assert_eq!(rows, Vec::from_iter(names.collect::<BTreeSet<_>>()));
    }

    #[test]
    fn tier_from_name_accepts_names_of_all_tiers() {
        for tier in Tier::ALL {
            assert_eq!(Tier::from_name(&tier.to_string()), Some(tier));
        }
        assert_eq!(Tier::from_name("units"), None);
    }
}
