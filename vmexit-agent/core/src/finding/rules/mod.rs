//! The rules, by subject. docs/findings.md is generated from them.

mod clock;
mod device;
mod interrupt;
mod settings;
mod vcpu;

use super::Rule;

/// All rules.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [clock::RULES, device::RULES, interrupt::RULES, vcpu::RULES].into_iter().flatten()
}
