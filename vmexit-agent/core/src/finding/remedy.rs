//! What to change: settings of the VM, for libvirt and for QEMU, without those that it has already.

use std::fmt::Write as _;

use super::{Advice, Os};
use crate::vm::{Feature, Profile};

/// What to change.
#[derive(Debug)]
pub struct Remedy {
    /// For whom; [`Os::Unknown`]: for all.
    pub os: Os,
    /// What to do, in a sentence.
    pub action: &'static str,
    /// How, outside of the guest.
    pub settings: &'static [Setting],
    /// What to do or look at inside of the guest, or on the host; empty if nothing.
    pub inside: &'static str,
}

/// A setting of a VM.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What it switches and to what; `None` if a command line does not show whether it has been made.
    pub switches: Option<(Feature, bool)>,
    /// The elements of libvirt's XML that it is in, below `<domain>`.
    pub inside: &'static [&'static str],
    /// The lines of XML.
    pub xml: &'static str,
    /// QEMU's option.
    pub option: &'static str,
    /// What is added to that option; empty if it is one more option.
    pub value: &'static str,
}

impl Remedy {
    pub(super) fn is_for(&self, os: Option<Os>) -> bool {
        self.os == Os::Unknown || os.is_none_or(|os| os == self.os)
    }

    /// Without what is there already.
    pub(super) fn advice(&self, profile: &Profile, is_qemu: bool) -> Advice {
        let missing: Vec<&Setting> =
            self.settings.iter().filter(|setting| !setting.is_made(profile)).collect();
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

    /// All settings, as somebody would make them who has none: XML, command line.
    pub fn all(&self) -> Option<(String, String)> {
        let all: Vec<&Setting> = self.settings.iter().collect();
        (!all.is_empty()).then(|| (xml(&all), options(&all)))
    }
}

impl Setting {
    fn is_made(&self, profile: &Profile) -> bool {
        self.switches.is_some_and(|(feature, on)| profile.has(feature) == Some(on))
    }
}

/// As XML, elements that share parents together.
fn xml(settings: &[&Setting]) -> String {
    let mut out = String::new();
    let mut open: &[&str] = &[];
    for setting in settings {
        let shared = open.iter().zip(setting.inside).take_while(|(a, b)| a == b).count();
        close(&mut out, open, shared);
        for (depth, element) in setting.inside.iter().enumerate().skip(shared) {
            let _ = writeln!(out, "{}<{element}>", indent(depth));
        }
        open = setting.inside;
        for line in setting.xml.lines() {
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

/// As options; what is added to the same one together.
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
