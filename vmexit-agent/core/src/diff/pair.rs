//! Matching of VMs between two recordings.

use serde::Serialize;

use crate::{
    measurement::Measurement,
    report::{Report, VmReport},
};

/// Property that two VMs have in common, most reliable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchedBy {
    /// The name, unique in each recording.
    Name,
    /// The UUID: the VM was renamed.
    Uuid,
    /// The process ID, on the same host.
    Pid,
    /// Nothing; each is the only VM left in its recording.
    Rest,
}

/// A VM of either recording, or of both.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub before: Option<&'a VmReport>,
    pub after: Option<&'a VmReport>,
    pub matched: Option<MatchedBy>,
}

/// A VM and its UUID.
#[derive(Clone, Copy)]
struct Known<'a> {
    vm: &'a VmReport,
    uuid: Option<&'a str>,
}

/// All VMs of both recordings, matched.
pub(super) fn pairs<'a>(
    before: &'a Measurement,
    old: &'a Report,
    after: &'a Measurement,
    new: &'a Report,
) -> Vec<Pair<'a>> {
    let same_host = old.host.name == new.host.name;
    type Same<'s> = &'s dyn Fn(&Known<'_>, &Known<'_>) -> bool;
    let properties: [(MatchedBy, Same<'_>); 4] = [
        (MatchedBy::Name, &|old, new| old.vm.name == new.vm.name),
        (MatchedBy::Uuid, &|old, new| old.uuid.is_some() && old.uuid == new.uuid),
        (MatchedBy::Pid, &|old, new| same_host && old.vm.pid == new.vm.pid),
        (MatchedBy::Rest, &|_, _| true),
    ];
    let (mut olds, mut news) = (known(before, old), known(after, new));
    let mut pairs = Vec::new();
    for (by, same) in properties {
        for (old, new) in take_matches(&mut olds, &mut news, same) {
            pairs.push(Pair { before: Some(old), after: Some(new), matched: Some(by) });
        }
    }
    pairs.extend(olds.iter().map(|old| Pair { before: Some(old.vm), after: None, matched: None }));
    pairs.extend(news.iter().map(|new| Pair { before: None, after: Some(new.vm), matched: None }));
    pairs
}

fn known<'a>(recording: &'a Measurement, report: &'a Report) -> Vec<Known<'a>> {
    let uuid = |pid| recording.vms.iter().find(|vm| vm.pid == pid)?.uuid.as_deref();
    report.vms.iter().map(|vm| Known { vm, uuid: uuid(vm.pid) }).collect()
}

/// Removes VMs that match, as pairs. A VM with several candidates is not matched.
fn take_matches<'a>(
    olds: &mut Vec<Known<'a>>,
    news: &mut Vec<Known<'a>>,
    same: impl Fn(&Known<'_>, &Known<'_>) -> bool,
) -> Vec<(&'a VmReport, &'a VmReport)> {
    let mut pairs: Vec<(&VmReport, &VmReport)> = Vec::new();
    for old in olds.iter() {
        let mut candidates = news.iter().filter(|new| same(old, new));
        let (Some(new), None) = (candidates.next(), candidates.next()) else { continue };
        if olds.iter().filter(|old| same(old, new)).count() == 1 {
            pairs.push((old.vm, new.vm));
        }
    }
    olds.retain(|one| pairs.iter().all(|(old, _)| old.pid != one.vm.pid));
    news.retain(|one| pairs.iter().all(|(_, new)| new.pid != one.vm.pid));
    pairs
}
