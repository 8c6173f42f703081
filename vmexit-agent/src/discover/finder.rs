//! Search for the VMs of processes with exits, in a thread of its own: a process chooses how many files and threads it
//! has, and so how long the search takes. The loop that counts, writes and answers waits only a moment for it.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use vmexit_core::vm::Vm;

/// Time to wait for answers. Most processes take less than a millisecond.
const PATIENCE: Duration = Duration::from_millis(50);

/// Most processes that are searched for at a time; the others follow with the next call.
const MOST_PENDING: usize = 64;

/// Pause after the first search of a process that found no VM. It doubles with each further one: a VMM that has closed
/// its VM will not open it again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Doublings of [`RETRY_PAUSE`] at most: some 17 minutes.
const MAX_DOUBLINGS: u32 = 10;

/// Searches that run or have failed, by process ID.
pub(crate) struct Finder {
    search: fn(u32) -> Option<Vm>,
    /// The thread, once a process was searched for.
    thread: Option<Searcher>,
    attempts: BTreeMap<u32, Attempt>,
}

/// Channels to the thread, which ends when they are dropped.
struct Searcher {
    wanted: Sender<u32>,
    found: Receiver<(u32, Option<Vm>)>,
}

/// Searches for the VM of one process.
struct Attempt {
    failures: u32,
    /// End of the pause; `None` while a search runs.
    due: Option<Instant>,
}

impl Default for Finder {
    fn default() -> Self {
        Self::new(super::find)
    }
}

impl Finder {
    fn new(search: fn(u32) -> Option<Vm>) -> Self {
        Self { search, thread: None, attempts: BTreeMap::new() }
    }

    /// Searches for the VMs of these processes, unless a search runs or failed a moment ago. Returns the VMs that were
    /// found within a moment, also by earlier calls.
    pub(crate) fn find(&mut self, pids: &[u32]) -> Vec<Vm> {
        // A process that has no exits any more may have ended; its ID may be that of another one later.
        self.attempts.retain(|pid, attempt| attempt.due.is_none() || pids.contains(pid));
        self.request(pids);
        self.collect()
    }

    fn request(&mut self, pids: &[u32]) {
        let now = Instant::now();
        let is_due = |pid: &u32| {
            self.attempts.get(pid).is_none_or(|attempt| attempt.due.is_some_and(|due| due <= now))
        };
        let mut wanted: Vec<u32> = pids.iter().copied().filter(is_due).collect();
        wanted.sort_by_key(|&pid| failures_of(&self.attempts, pid));
        wanted.truncate(MOST_PENDING.saturating_sub(self.pending()));
        for pid in wanted {
            let failures = failures_of(&self.attempts, pid);
            let is_sent = self.thread().is_some_and(|thread| thread.wanted.send(pid).is_ok());
            self.attempts.insert(pid, Attempt { failures, due: None });
            if !is_sent {
                self.fail(pid);
            }
        }
    }

    /// The thread, which starts with the first search; `None` if there can't be another thread now.
    fn thread(&mut self) -> Option<&Searcher> {
        if self.thread.is_none() {
            let (wanted, requests) = channel();
            let (answers, found) = channel();
            let search = self.search;
            let run = move || {
                for pid in requests {
                    if answers.send((pid, search(pid))).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new().name("discover".into()).spawn(run).ok()?;
            self.thread = Some(Searcher { wanted, found });
        }
        self.thread.as_ref()
    }

    fn collect(&mut self) -> Vec<Vm> {
        let deadline = Instant::now() + PATIENCE;
        let mut vms = Vec::new();
        while self.pending() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(answer) = self.thread.as_ref().map(|thread| thread.found.recv_timeout(left))
            else {
                break;
            };
            match answer {
                Ok((pid, Some(vm))) => {
                    self.attempts.remove(&pid);
                    vms.push(vm);
                }
                Ok((pid, None)) => self.fail(pid),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    self.thread = None;
                    let is_pending =
                        |(&pid, attempt): (&u32, &Attempt)| attempt.due.is_none().then_some(pid);
                    let pending: Vec<u32> = self.attempts.iter().filter_map(is_pending).collect();
                    pending.into_iter().for_each(|pid| self.fail(pid));
                }
            }
        }
        vms
    }

    fn fail(&mut self, pid: u32) {
        let failures = failures_of(&self.attempts, pid);
        let pause = RETRY_PAUSE * (1 << failures.min(MAX_DOUBLINGS));
        let due = Some(Instant::now() + pause);
        self.attempts.insert(pid, Attempt { failures: failures + 1, due });
    }

    fn pending(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.due.is_none()).count()
    }
}

fn failures_of(attempts: &BTreeMap<u32, Attempt>, pid: u32) -> u32 {
    attempts.get(&pid).map_or(0, |attempt| attempt.failures)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread::sleep,
    };

    use super::*;

    #[test]
    fn process_without_vm_is_not_searched_again_at_once() {
        static SEARCHES: AtomicUsize = AtomicUsize::new(0);
        let mut finder = Finder::new(|_| {
            SEARCHES.fetch_add(1, Ordering::Relaxed);
            None
        });
        for _ in 0..100 {
            assert!(finder.find(&[7]).is_empty());
        }
        assert_eq!(SEARCHES.load(Ordering::Relaxed), 1);
        // Another process may have this ID later.
        finder.find(&[]);
        finder.find(&[7]);
        assert_eq!(SEARCHES.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn slow_search_is_not_waited_for() {
        let mut finder = Finder::new(|pid| {
            sleep(Duration::from_millis(500));
            Some(Vm { pid, ..Vm::default() })
        });
        let begun = Instant::now();
        assert!(finder.find(&[7]).is_empty());
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
        let mut found = Vec::new();
        while found.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it was never found");
            found = finder.find(&[7]);
        }
        assert_eq!(found[0].pid, 7);
    }

    #[test]
    fn many_processes_are_searched_in_turns() {
        let mut finder = Finder::new(|pid| (pid % 2 == 0).then(|| Vm { pid, ..Vm::default() }));
        let mut pids: Vec<u32> = (0..1000).collect();
        let mut calls = 0;
        while pids.iter().any(|pid| pid % 2 == 0) {
            calls += 1;
            assert!(calls < 1000, "{pids:?}");
            let found = finder.find(&pids);
            assert!(finder.pending() <= MOST_PENDING);
            pids.retain(|pid| found.iter().all(|vm| vm.pid != *pid));
        }
        assert!(calls >= 1000 / MOST_PENDING);
    }
}
