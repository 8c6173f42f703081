//! Address maps of VMs, queried in the background and cached. A VM is queried again if an address is not in its map.

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

/// Shortest time between the first two queries of a VM. It doubles with each query, as a guest may keep accessing an
/// address that has no device.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Doublings of [`RETRY_PAUSE`] at most: some four minutes.
const MAX_DOUBLINGS: u32 = 9;

/// Address maps of VMs by process ID. A VM has none until it has answered.
#[derive(Debug)]
pub struct Maps {
    /// Options for asking VMs; `None` to ask none.
    options: Option<MonitorOptions>,
    known: BTreeMap<u32, Map>,
    queries: BTreeMap<u32, PendingQuery>,
}

/// Last query of a VM.
#[derive(Debug)]
struct PendingQuery {
    started: Instant,
    /// Number of queries before this one.
    retries: u32,
    /// Task of the query, until its answer is collected.
    answer: Option<Answer>,
    /// Error of the previous query, which is logged already.
    problem: Option<String>,
}

/// Task that queries a VM; its error is a sentence.
type Answer = JoinHandle<Result<MemoryTree, String>>;

impl Maps {
    /// No maps, and no query started.
    pub fn new(options: Option<MonitorOptions>) -> Self {
        Self { options, known: BTreeMap::new(), queries: BTreeMap::new() }
    }

    /// Starts to query a VM, unless it was queried before.
    pub fn query(&mut self, vm: &Vm) {
        if !self.queries.contains_key(&vm.pid) {
            self.start(vm);
        }
    }

    /// Starts to query a VM again, unless the last query was a moment ago. Devices are plugged in, and firmware moves
    /// them. Returns whether a query was started.
    pub fn query_again(&mut self, vm: &Vm) -> bool {
        let due = self.queries.get(&vm.pid).is_none_or(|query| {
            let pause = RETRY_PAUSE * (1 << query.retries.min(MAX_DOUBLINGS));
            query.answer.is_none() && query.started.elapsed() >= pause
        });
        due && self.start(vm)
    }

    /// Starts a query; false if the options forbid it or the VM has no monitor.
    fn start(&mut self, vm: &Vm) -> bool {
        let Some(options) = self.options.clone().filter(|_| !vm.monitors.is_empty()) else {
            return false;
        };
        let of = vm.clone();
        let answer = tokio::spawn(async move {
            let text = memory_tree(&of, &options).await.map_err(|error| error.to_string())?;
            // Some MiB of untrusted text: too long to parse in the event loop.
            let parsed = tokio::task::spawn_blocking(move || MemoryTree::parse(&text)).await;
            parsed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        });
        let (started, answer) = (Instant::now(), Some(answer));
        let query = match self.queries.remove(&vm.pid) {
            Some(before) => PendingQuery { started, retries: before.retries + 1, answer, ..before },
            None => PendingQuery { started, retries: 0, answer, problem: None },
        };
        self.queries.insert(vm.pid, query);
        true
    }

    /// Waits for the answers of all queries, which the options limit in time. After a failure the previous map stays. A
    /// failure is logged as a warning, unless the previous one was the same or the VM has ended.
    pub async fn wait(&mut self) {
        self.collect(|_| true).await;
    }

    /// Collects the answers of finished queries, without waiting.
    pub async fn collect_finished(&mut self) {
        self.collect(JoinHandle::is_finished).await;
    }

    async fn collect(&mut self, wanted: impl Fn(&Answer) -> bool) {
        for (&pid, query) in &mut self.queries {
            let Some(answer) = query.answer.take_if(|answer| wanted(answer)) else { continue };
            let problem = match answer.await {
                Ok(Ok(tree)) => {
                    self.known.insert(pid, Map::Asked(tree));
                    query.problem = None;
                    continue;
                }
                Ok(Err(problem)) => problem,
                Err(error) => format!("querying the devices of process {pid} failed: {error}"),
            };
            if query.problem.as_ref() != Some(&problem) && discover::is_running(pid) {
                log::warn!("{problem}");
            }
            query.problem = Some(problem);
        }
    }

    /// Removes the map and the query of a VM that has ended.
    pub fn remove(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.queries.remove(&pid);
    }

    /// Address maps by process ID.
    pub fn known(&self) -> &BTreeMap<u32, Map> {
        &self.known
    }
}
