//! Address maps of VMs, queried in the background and cached. A VM is queried again if an address is not in its map.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinHandle, time::timeout_at};
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

/// Most VMs that are asked at a time; the others wait. A VM that hangs holds its place for the time limits of its
/// monitors.
const MOST_QUERIES: usize = 64;

/// Time that [`Maps::wait`] waits for all VMs together: the time limits of one VM's monitors. More VMs than
/// [`MOST_QUERIES`] that hang would hold up the end of a capture for minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Memory for the maps of all VMs, bytes; that of a VM with 64 PCI devices takes some 100 kB. Beyond it the largest maps
/// are left out, so that one VM's map can't displace many small ones.
const MAX_BYTES: usize = 64 << 20;

/// Address maps of VMs by process ID. A VM has none until it has answered.
#[derive(Debug)]
pub struct Maps {
    /// Options for asking VMs; `None` to ask none.
    options: Option<MonitorOptions>,
    known: BTreeMap<u32, Map>,
    /// Memory of each known map, bytes.
    sizes: BTreeMap<u32, usize>,
    /// Places of queries that run.
    places: Arc<Semaphore>,
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
        Self {
            options,
            known: BTreeMap::new(),
            sizes: BTreeMap::new(),
            places: Arc::new(Semaphore::new(MOST_QUERIES)),
            queries: BTreeMap::new(),
        }
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
        let (of, places) = (vm.clone(), self.places.clone());
        let answer = tokio::spawn(async move {
            // It is never closed.
            let _place = places.acquire().await;
            let text = memory_tree(&of, &options).await.map_err(|error| error.to_string())?;
            // Up to 2 MiB of untrusted text: too long to parse in the event loop.
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

    /// Waits for the answers of all queries, at most ten seconds. After a failure the previous map stays. A failure
    /// is logged as a warning, unless the previous one was the same or the VM has ended.
    pub async fn wait(&mut self) {
        self.collect(|_| true).await;
    }

    /// Collects the answers of finished queries, without waiting.
    pub async fn collect_finished(&mut self) {
        self.collect(JoinHandle::is_finished).await;
    }

    async fn collect(&mut self, wanted: impl Fn(&Answer) -> bool) {
        let deadline = tokio::time::Instant::now() + LONGEST_WAIT;
        let mut answers = Vec::new();
        for (&pid, query) in &mut self.queries {
            let Some(mut answer) = query.answer.take_if(|answer| wanted(answer)) else { continue };
            answers.push((pid, timeout_at(deadline, &mut answer).await));
            answer.abort();
        }
        for (pid, answer) in answers {
            let problem = match answer {
                Ok(Ok(Ok(tree))) => self.add(pid, tree).err(),
                Ok(Ok(Err(problem))) => Some(problem),
                Ok(Err(error)) => {
                    Some(format!("querying the devices of process {pid} failed: {error}"))
                }
                Err(_) => Some(format!(
                    "the devices of process {pid} can't be asked for: too many VMs do not answer"
                )),
            };
            self.set_problem(pid, problem);
        }
    }

    /// Adds a map, and makes room for it if needed.
    ///
    /// # Errors
    /// It is too large itself; a sentence.
    fn add(&mut self, pid: u32, tree: MemoryTree) -> Result<(), String> {
        self.sizes.insert(pid, tree.bytes());
        self.known.insert(pid, Map::Asked(tree));
        while self.sizes.values().sum::<usize>() > MAX_BYTES {
            let Some((&largest, _)) = self.sizes.iter().max_by_key(|(_, size)| **size) else {
                break;
            };
            self.sizes.remove(&largest);
            self.known.remove(&largest);
            let problem = format!(
                "the devices of process {largest} are left out: the device maps of all VMs take more than {} MiB, and \
                 this is the largest",
                MAX_BYTES >> 20
            );
            if largest == pid {
                return Err(problem);
            }
            self.set_problem(largest, Some(problem));
        }
        Ok(())
    }

    /// Logs a problem of a VM's query, unless it is that of the previous one.
    fn set_problem(&mut self, pid: u32, problem: Option<String>) {
        let Some(query) = self.queries.get_mut(&pid) else { return };
        if let Some(problem) = &problem
            && query.problem.as_ref() != Some(problem)
            && discover::is_running(pid)
        {
            log::warn!("{problem}");
        }
        query.problem = problem;
    }

    /// Removes the map and the query of a VM that has ended.
    pub fn remove(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.sizes.remove(&pid);
        let query = self.queries.remove(&pid);
        if let Some(answer) = query.and_then(|query| query.answer) {
            answer.abort();
        }
    }

    /// Address maps by process ID.
    pub fn known(&self) -> &BTreeMap<u32, Map> {
        &self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with 8,000 regions of long names: some 2 MB.
    fn large() -> MemoryTree {
        let line =
            |at: usize| format!("  {at:016x}-{at:016x} (prio 0, i/o): {}\n", "x".repeat(200));
        let lines: String = (0..8000).map(line).collect();
        let spaces =
            [(" AS \"I/O\", root: io\n", lines.as_str()), (" AS \"memory\", root: m\n", "")];
        let text: String =
            spaces.map(|(space, lines)| format!("FlatView #0\n{space}{lines}")).concat();
        MemoryTree::parse(&text).unwrap()
    }

    #[tokio::test]
    async fn maps_of_all_vms_are_bounded_and_small_ones_stay() {
        let mut maps = Maps::new(None);
        let text = "FlatView #0\n AS \"I/O\", root: io\nFlatView #1\n AS \"memory\", root: m\n";
        maps.add(1000, MemoryTree::parse(text).unwrap()).unwrap();
        let large = large();
        let refused = (0..100).filter(|&pid| maps.add(pid, large.clone()).is_err()).count();
        let bytes: usize = maps.sizes.values().sum();
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES / 2, "{bytes}");
        assert!(refused > 0 && maps.known.contains_key(&1000));
        assert!(maps.known.keys().eq(maps.sizes.keys()));
        (0..100).for_each(|pid| maps.remove(pid));
        assert_eq!((maps.known.len(), maps.sizes.len()), (1, 1));
    }
}
