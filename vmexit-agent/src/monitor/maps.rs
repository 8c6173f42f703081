//! What is known of VMs' address spaces: asked for in the background while something else goes on,
//! remembered, and asked for again where an address was not found in what is remembered.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use vmexit_core::{
    device::{Map, mtree::MemoryTree},
    vm::Vm,
};

use super::{MonitorOptions, memory_tree};
use crate::discover;

/// From the first question to a VM to the next, at least; then twice as long each time, for there may
/// be nothing at an address that a guest keeps asking for.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest that gets, in doublings: some four minutes.
const DOUBLINGS: u32 = 9;

/// The maps of VMs by process id. A VM is missing while it is asked, and if it can't be.
#[derive(Debug)]
pub struct Maps {
    /// How to ask; nobody is asked if `None`.
    options: Option<MonitorOptions>,
    known: BTreeMap<u32, Map>,
    asked: BTreeMap<u32, PendingQuery>,
}

#[derive(Debug)]
struct PendingQuery {
    when: Instant,
    /// How often before that.
    times: u32,
    /// Until the answer has been taken note of; an error is a sentence.
    answer: Option<Answer>,
    /// Why there was none the last time.
    problem: Option<String>,
}

type Answer = JoinHandle<Result<MemoryTree, String>>;

impl Maps {
    /// Knows nothing yet.
    pub fn new(options: Option<MonitorOptions>) -> Self {
        Self { options, known: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Begins to ask a VM, unless it has been asked before.
    pub fn learn(&mut self, vm: &Vm) {
        if !self.asked.contains_key(&vm.pid) {
            self.ask(vm);
        }
    }

    /// Begins to ask a VM again, unless it was asked a moment ago: devices come, and firmware moves
    /// them. Says whether it does.
    pub fn renew(&mut self, vm: &Vm) -> bool {
        let due = self.asked.get(&vm.pid).is_none_or(|asked| {
            let pause = AGAIN * (1 << asked.times.min(DOUBLINGS));
            asked.answer.is_none() && asked.when.elapsed() >= pause
        });
        due && self.ask(vm)
    }

    /// Whether there is anything to ask.
    fn ask(&mut self, vm: &Vm) -> bool {
        let Some(options) = self.options.clone().filter(|_| !vm.monitors.is_empty()) else {
            return false;
        };
        let of = vm.clone();
        let answer = tokio::spawn(async move {
            let text = memory_tree(&of, &options).await.map_err(|error| error.to_string())?;
            // Up to some MiB of somebody else's text.
            let parsed = tokio::task::spawn_blocking(move || MemoryTree::parse(&text)).await;
            parsed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        });
        let (when, answer) = (Instant::now(), Some(answer));
        let asked = match self.asked.remove(&vm.pid) {
            Some(before) => PendingQuery { when, times: before.times + 1, answer, ..before },
            None => PendingQuery { when, times: 0, answer, problem: None },
        };
        self.asked.insert(vm.pid, asked);
        true
    }

    /// Waits for all answers, which come or fail within the options' patience. One that fails leaves what was
    /// known before, and costs a warning: one, as long as it fails for the same reason, and none if the VM has
    /// ended.
    pub async fn settle(&mut self) {
        self.take(|_| true).await;
    }

    /// Takes note of the answers that have come, without waiting for others.
    pub async fn collect(&mut self) {
        self.take(JoinHandle::is_finished).await;
    }

    async fn take(&mut self, wanted: impl Fn(&Answer) -> bool) {
        for (&pid, asked) in &mut self.asked {
            let Some(answer) = asked.answer.take_if(|answer| wanted(answer)) else { continue };
            let problem = match answer.await {
                Ok(Ok(tree)) => {
                    self.known.insert(pid, Map::Asked(tree));
                    asked.problem = None;
                    continue;
                }
                Ok(Err(problem)) => problem,
                Err(error) => format!("the devices of process {pid} are not known: {error}"),
            };
            if asked.problem.as_ref() != Some(&problem) && discover::is_running(pid) {
                log::warn!("{problem}");
            }
            asked.problem = Some(problem);
        }
    }

    /// Forgets a VM that has ended.
    pub fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.asked.remove(&pid);
    }

    /// What is known.
    pub fn known(&self) -> &BTreeMap<u32, Map> {
        &self.known
    }
}
