//! Banners: warnings at the top of the screen.

use vmexit_core::escape::safe;

use super::State;
use crate::{losses, sampling, text::is_complete};

/// Maximum number of ended VMs listed by name.
const NAMED: usize = 3;

impl State {
    /// Keeps the losses of the last interval until the baseline is reset, as one interval may be too short to notice them.
    pub(super) fn note_losses(&mut self, time: String) {
        let accounting = &self.frame.interval.accounting;
        if !is_complete(accounting) {
            self.loss = Some((time, losses(accounting)));
        }
    }

    /// Banners of one line each, most important first.
    pub(in super::super) fn banners(&self) -> Vec<String> {
        let mut banners = Vec::new();
        if let Some((time, loss)) = &self.loss {
            banners.push(format!("{time} {loss}"));
        }
        if self.silent {
            let module = self.frame.interval.host.kvm_module.as_deref().unwrap_or("KVM");
            banners.push(format!(
                "{} never emits kvm_exit: no exit reasons, no times; events are counted",
                safe(module)
            ));
        }
        banners.extend(sampling::remarks(&self.frame.interval));
        let vms = self.frame.interval.vms.iter().filter(|vm| self.has_ended(vm.pid));
        let mut names: Vec<String> = vms.map(|vm| safe(&vm.name)).collect();
        if !names.is_empty() {
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            if more > 0 {
                names.push(format!("{more} more"));
            }
            banners.push(format!("ended: {}", names.join(", ")));
        }
        banners
    }
}
