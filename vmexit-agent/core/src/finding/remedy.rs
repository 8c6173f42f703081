//! Remedies: settings of the VM, for libvirt and for QEMU, without those that it already has.

use std::fmt::Write as _;

use super::{Advice, Os};
use crate::vm::{Feature, Profile};

/// A change to make.
#[derive(Debug)]
pub struct Remedy {
    /// Guests that it applies to; [`Os::Unknown`]: all.
    pub os: Os,
    /// Action, one sentence.
    pub action: &'static str,
    /// Settings of the VM that carry it out.
    pub settings: &'static [Setting],
    /// Steps in the guest or on the host; empty if none.
    pub inside: &'static str,
}

/// A setting of a VM.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Feature that it switches, and the value; `None` if the command line does not show whether it
    /// is set.
    pub switches: Option<(Feature, bool)>,
    /// Parent elements in libvirt's XML, below `<domain>`.
    pub parents: &'static [&'static str],
    /// Lines of XML.
    pub xml: &'static [&'static str],
    /// QEMU's option.
    pub option: &'static str,
    /// Value added to the option; empty if the option stands on its own.
    pub value: &'static str,
}

impl Remedy {
    pub(super) fn is_for(&self, os: Option<Os>) -> bool {
        self.os == Os::Unknown || os.is_none_or(|os| os == self.os)
    }

    /// The remedy for one VM, without settings that it already has.
    pub(super) fn advice(&self, profile: &Profile, is_qemu: bool) -> Advice {
        let missing: Vec<&Setting> =
            self.settings.iter().filter(|setting| !setting.is_set(profile)).collect();
        let shown = is_qemu && !missing.is_empty();
        Advice {
            os: self.os,
            action: self.action,
            offered: !self.settings.is_empty() && missing.is_empty(),
            libvirt: shown.then(|| xml(&missing)),
            qemu: shown.then(|| options(&missing)),
            inside: (!self.inside.is_empty()).then_some(self.inside),
        }
    }

    /// All settings, for a VM that has none of them: XML and command line.
    pub fn all(&self) -> Option<(String, String)> {
        let all: Vec<&Setting> = self.settings.iter().collect();
        (!all.is_empty()).then(|| (xml(&all), options(&all)))
    }
}

impl Setting {
    fn is_set(&self, profile: &Profile) -> bool {
        self.switches.is_some_and(|(feature, on)| profile.has(feature) == Some(on))
    }
}

/// Settings as XML; elements with the same parents are joined.
fn xml(settings: &[&Setting]) -> String {
    let mut out = String::new();
    let mut open: &[&str] = &[];
    for setting in settings {
        let shared = open.iter().zip(setting.parents).take_while(|(a, b)| a == b).count();
        close(&mut out, open, shared);
        for (depth, element) in setting.parents.iter().enumerate().skip(shared) {
            let _ = writeln!(out, "{}<{element}>", indent(depth));
        }
        open = setting.parents;
        for line in setting.xml {
            let _ = writeln!(out, "{}{line}", indent(open.len()));
        }
    }
    close(&mut out, open, 0);
    out.truncate(out.trim_end().len());
    out
}

fn close(out: &mut String, open: &[&str], keep: usize) {
    for (depth, element) in open.iter().enumerate().skip(keep).rev() {
        let _ = writeln!(out, "{}</{element}>", indent(depth));
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

/// Settings as options; values of the same option are joined.
fn options(settings: &[&Setting]) -> String {
    let mut options: Vec<(&str, String)> = Vec::new();
    for setting in settings {
        let known = options.iter_mut().find(|(option, _)| *option == setting.option);
        match known {
            _ if setting.value.is_empty() => options.push((setting.option, String::new())),
            Some((_, values)) => {
                values.push(',');
                values.push_str(setting.value);
            }
            None => options.push((setting.option, setting.value.to_owned())),
        }
    }
    let shown = options.into_iter().map(|(option, values)| {
        if values.is_empty() { option.to_owned() } else { format!("{option} …,{values}") }
    });
    shown.collect::<Vec<_>>().join("\n")
}
