//! What the service manager is told, if there is one: that it counts, that it still does, that it ends
//! (`sd_notify(3)`).

use std::time::Duration;

use sd_notify::NotifyState;

/// How often it is to be told that all is well, if it wants to know: twice as often as it must be.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("counting")]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("the service manager can't be told: {error}"),
    }
}

pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Nobody is worse off if it can't be told.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager can't be told: {error}");
    }
}
