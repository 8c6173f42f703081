//! Notifications of the service manager (`sd_notify(3)`). Without one they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Period of [`watchdog_alive`]: half the time that the service manager allows. `None` without a watchdog.
pub(super) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

/// Reports that the service is counting.
pub(super) fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("counting")]);
}

/// Reports the start of a reload; [`ready`] reports its end.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("the service manager can't be notified: {error}"),
    }
}

/// Reports that the loop still runs.
pub(super) fn watchdog_alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Reports that the service ends.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Sends states. A failure is only logged: the service works without its manager.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager can't be notified: {error}");
    }
}
