//! Limits on the number of log messages: by kind, so that one cause can't hide the others, and in all.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::{Duration, Instant},
};

use log::Record;

/// Messages of one kind that are written at once.
pub(super) const BURST: u32 = 20;
/// Time between later messages of one kind.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// Messages of all kinds that are written at once. With [`TOTAL_INTERVAL`], at most 100 are written in any minute.
const TOTAL_BURST: u32 = 50;
/// Time between later messages of all kinds.
const TOTAL_INTERVAL: Duration = Duration::from_millis(1_200);
/// Number of kinds that are told apart; all others are of one kind.
const MAX_KINDS: usize = 64;

/// MessageKind of a message: the line of the source that logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MessageKind(u64);

impl MessageKind {
    /// MessageKind of all messages beyond [`MAX_KINDS`].
    const OTHER: Self = Self(0);

    pub(super) fn of(record: &Record<'_>) -> Self {
        let source = (record.target(), record.file(), record.line());
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(source))
    }
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Write it. So many of its kind were left out before it.
    Write(u64),
    /// Pass it to [`Limiter::keep`]: it is the first of its kind to be left out.
    Keep,
    /// Leave it out.
    LeaveOut,
}

/// Limit on a rate, after a burst (generic cell rate algorithm).
#[derive(Clone, Copy)]
struct RateLimit {
    /// Time at which the bucket is full again.
    full: Option<Instant>,
    burst: u32,
    interval: Duration,
}

impl RateLimit {
    const fn new(burst: u32, interval: Duration) -> Self {
        Self { full: None, burst, interval }
    }

    /// Time at which the bucket would be full after one more message; `None` if that is one too many.
    fn after(&self, now: Instant) -> Option<Instant> {
        let full = self.full.map_or(now, |full| full.max(now)) + self.interval;
        (full.saturating_duration_since(now) <= self.interval * self.burst).then_some(full)
    }
}

/// State of a kind.
struct KindState<M> {
    bucket: RateLimit,
    /// Messages left out since the last one that was written.
    left_out: u64,
    /// The first of them.
    first: Option<M>,
}

/// Counts messages by kind and decides which are written. `M` is a message.
pub(super) struct Limiter<M> {
    kinds: Option<HashMap<MessageKind, KindState<M>>>,
    total: RateLimit,
}

impl<M> Limiter<M> {
    pub(super) const fn new() -> Self {
        Self { kinds: None, total: RateLimit::new(TOTAL_BURST, TOTAL_INTERVAL) }
    }

    /// Decides on a message.
    pub(super) fn admit(&mut self, kind: MessageKind, now: Instant) -> Admission {
        let total = self.total.after(now);
        let state = self.state(kind);
        match (state.bucket.after(now), total) {
            (Some(full), Some(total)) => {
                state.bucket.full = Some(full);
                state.first = None;
                let left_out = std::mem::take(&mut state.left_out);
                self.total.full = Some(total);
                Admission::Write(left_out)
            }
            _ => {
                state.left_out += 1;
                if state.left_out == 1 { Admission::Keep } else { Admission::LeaveOut }
            }
        }
    }

    /// Keeps the first message of a kind that was left out, for [`Self::due`].
    pub(super) fn keep(&mut self, kind: MessageKind, message: M) {
        let state = self.state(kind);
        if state.left_out > 0 {
            state.first.get_or_insert(message);
        }
    }

    /// Kept messages that may be written now, each with the number of those that were left out after it.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(M, u64)> {
        let mut due = Vec::new();
        for state in self.kinds.iter_mut().flat_map(HashMap::values_mut) {
            let (Some(_), Some(full), Some(total)) =
                (&state.first, state.bucket.after(now), self.total.after(now))
            else {
                continue;
            };
            (state.bucket.full, self.total.full) = (Some(full), Some(total));
            due.extend(state.take());
        }
        due
    }

    /// All kept messages, as [`Self::due`], whatever the limits.
    pub(super) fn rest(&mut self) -> Vec<(M, u64)> {
        let states = self.kinds.iter_mut().flat_map(HashMap::values_mut);
        states.filter_map(KindState::take).collect()
    }

    fn state(&mut self, kind: MessageKind) -> &mut KindState<M> {
        let kinds = self.kinds.get_or_insert_default();
        let is_known = kinds.contains_key(&kind);
        let kind = if is_known || kinds.len() < MAX_KINDS { kind } else { MessageKind::OTHER };
        kinds.entry(kind).or_insert_with(|| KindState {
            bucket: RateLimit::new(BURST, INTERVAL),
            left_out: 0,
            first: None,
        })
    }
}

impl<M> KindState<M> {
    /// Takes the kept message, and the number of those that were left out after it.
    fn take(&mut self) -> Option<(M, u64)> {
        let first = self.first.take()?;
        Some((first, std::mem::take(&mut self.left_out).saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Number of messages that are written of so many.
    fn written(
        limiter: &mut Limiter<u64>,
        kind: MessageKind,
        messages: u64,
        now: Instant,
    ) -> usize {
        let verdicts = (0..messages).map(|number| match limiter.admit(kind, now) {
            Admission::Keep => {
                limiter.keep(kind, number);
                false
            }
            verdict => matches!(verdict, Admission::Write(_)),
        });
        verdicts.filter(|&written| written).count()
    }

    #[test]
    fn admit_of_one_kind_writes_burst_then_one_per_interval() {
        let (mut limiter, now) = (Limiter::new(), Instant::now());
        assert_eq!(written(&mut limiter, MessageKind(1), 17_500, now), BURST as usize);
        assert_eq!(limiter.admit(MessageKind(2), now), Admission::Write(0), "another kind");
        let later = now + INTERVAL;
        assert_eq!(
            limiter.admit(MessageKind(1), later),
            Admission::Write(17_500 - u64::from(BURST))
        );
        assert_eq!(limiter.admit(MessageKind(1), later), Admission::Keep);
        assert_eq!(limiter.admit(MessageKind(1), later + INTERVAL), Admission::Write(1));
    }

    #[test]
    fn admit_of_many_kinds_writes_100_a_minute_and_keeps_few() {
        let (mut limiter, start) = (Limiter::new(), Instant::now());
        let mut sum = 0;
        for second in 0..60 {
            for kind in 1..10_000 {
                sum += written(&mut limiter, MessageKind(kind), 1, start + SECOND * second);
            }
        }
        assert!((50..=100).contains(&sum), "{sum}");
        let kinds = limiter.kinds.as_ref().map_or(0, HashMap::len);
        assert!(kinds <= MAX_KINDS + 1, "{kinds}");
    }

    #[test]
    fn due_returns_first_left_out_message_and_number_of_others() {
        let (mut limiter, now) = (Limiter::new(), Instant::now());
        written(&mut limiter, MessageKind(1), u64::from(BURST) + 5, now);
        assert_eq!(limiter.due(now), []);
        assert_eq!(limiter.due(now + INTERVAL), [(u64::from(BURST), 4)]);
        assert_eq!(limiter.due(now + 2 * INTERVAL), []);
        written(&mut limiter, MessageKind(1), 2 * u64::from(BURST), now);
        assert_eq!(limiter.rest().len(), 1);
    }
}
