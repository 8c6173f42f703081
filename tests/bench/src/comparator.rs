//! The comparators: eBPF programs and maps of each mode, and their counts.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{HashMap, Map, MapData, PerCpuArray, PerCpuHashMap},
    programs::{Program, RawTracePoint, TracePoint},
};

use crate::Mode;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vmexit-bench-ebpf"));

/// Names of a program and of its tracepoint.
type ComparatorProgram = (&'static str, &'static str);

/// Programs of a mode in the order of attachment. Those on the end of an exit come first, so that no exit stays in
/// flight.
fn programs(mode: Mode, on_amd: bool) -> &'static [ComparatorProgram] {
    match mode {
        Mode::Nothing | Mode::Command | Mode::Ftrace | Mode::Poll | Mode::Frame => &[],
        Mode::Floor => &[("floor_entry", "kvm_entry"), ("floor_exit", "kvm_exit")],
        Mode::FloorClassic => &[("classic_entry", "kvm_entry"), ("classic_exit", "kvm_exit")],
        Mode::Bcc if on_amd => &[("bcc_svm_exit", "kvm_exit")],
        Mode::Bcc => &[("bcc_vmx_exit", "kvm_exit")],
        Mode::Bpftrace => &[("bpftrace_entry", "kvm_entry"), ("bpftrace_exit", "kvm_exit")],
        Mode::RawNaive => {
            &[("naive_entry", "kvm_entry"), ("naive_pio", "kvm_pio"), ("naive_exit", "kvm_exit")]
        }
        Mode::Empty => {
            &[("empty_pio", "kvm_pio"), ("empty_msr", "kvm_msr"), ("empty_mmio", "kvm_mmio")]
        }
        Mode::EmptyClassic => &[
            ("tp_empty_pio", "kvm_pio"),
            ("tp_empty_msr", "kvm_msr"),
            ("tp_empty_mmio", "kvm_mmio"),
        ],
    }
}

/// Attached programs. Dropping the value detaches them.
pub(crate) struct Comparator {
    mode: Mode,
    on_amd: bool,
    ebpf: Ebpf,
}

impl Comparator {
    /// Loads and attaches the programs of a mode.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a program or has another layout of `kvm_exit`.
    pub(crate) fn start(mode: Mode) -> Result<Self> {
        let on_amd = on_amd()?;
        let mut loader = EbpfLoader::new();
        // The only large map: 8 MB per CPU.
        if mode != Mode::Bcc || !on_amd {
            loader.map_max_entries("BCC_SVM_STAT", 1);
        }
        let mut ebpf = loader.load(OBJECT).context("the eBPF object can't be loaded")?;
        if matches!(mode, Mode::Bcc | Mode::Bpftrace) {
            check_layout(Path::new("/sys/kernel/tracing"))?;
        }
        if mode == Mode::Bpftrace {
            name_reasons(&mut ebpf)?;
        }
        for (name, tracepoint) in programs(mode, on_amd) {
            let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
            attach(program, tracepoint).with_context(|| format!("{name} on {tracepoint}"))?;
        }
        Ok(Self { mode, on_amd, ebpf })
    }

    /// Number of exits in the maps; none for modes that do not count.
    ///
    /// # Errors
    ///
    /// When a map can't be read.
    pub(crate) fn counted(&self) -> Result<Option<u64>> {
        Ok(match self.mode {
            Mode::Bcc if self.on_amd => Some(self.counted_by_bcc::<0x405, 0x404>("SVM")?),
            Mode::Bcc => Some(self.counted_by_bcc::<78, 77>("VMX")?),
            Mode::Bpftrace => {
                let buckets = PerCpuHashMap::<_, [u32; 9], u64>::try_from(self.map("BT_EXIT_NS")?)?;
                let mut sum = 0;
                for bucket in buckets.iter() {
                    sum += bucket?.1.iter().sum::<u64>();
                }
                Some(sum)
            }
            Mode::RawNaive => {
                let rows = PerCpuArray::<_, [u64; 2]>::try_from(self.map("NAIVE_REASONS")?)?;
                let mut sum = 0;
                for row in rows.iter() {
                    sum += row?.iter().map(|[count, _ns]| count).sum::<u64>();
                }
                Some(sum)
            }
            _ => None,
        })
    }

    /// Number of exits in the maps of the bcc programs. The counts of a thread are in the cache of a CPU, which is
    /// then the current one, or in the hash table.
    fn counted_by_bcc<const CACHE: usize, const COUNTS: usize>(&self, vendor: &str) -> Result<u64> {
        let map = |name| self.map(&format!("BCC_{vendor}_{name}"));
        let cache = PerCpuArray::<_, [u64; CACHE]>::try_from(map("CACHE")?)?;
        let cached = cache.get(&0, 0)?;
        let table = PerCpuHashMap::<_, u64, [u64; COUNTS]>::try_from(map("STAT")?)?;
        let mut sum = 0;
        for entry in table.iter() {
            let (thread, counts) = entry?;
            for (cache, counts) in cached.iter().zip(counts.iter()) {
                let (last, cached) = cache.split_first().unwrap_or((&0, &[]));
                let counts: &[u64] = if *last == thread { cached } else { counts };
                sum += counts.iter().sum::<u64>();
            }
        }
        Ok(sum)
    }

    fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf.map(name).with_context(|| format!("no map {name}"))
    }
}

fn attach(program: &mut Program, tracepoint: &str) -> Result<()> {
    match program {
        Program::RawTracePoint(program) => attach_raw(program, tracepoint),
        program => attach_classic(program.try_into()?, tracepoint),
    }
}

fn attach_raw(program: &mut RawTracePoint, tracepoint: &str) -> Result<()> {
    program.load()?;
    program.attach(tracepoint)?;
    Ok(())
}

fn attach_classic(program: &mut TracePoint, tracepoint: &str) -> Result<()> {
    program.load()?;
    program.attach("kvm", tracepoint)?;
    Ok(())
}

fn on_amd() -> Result<bool> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo can't be read")?;
    Ok(cpus.contains("AuthenticAMD"))
}

/// Checks that the exit reason is at the offset that the programs have compiled in.
fn check_layout(tracefs: &Path) -> Result<()> {
    let path = tracefs.join("events/kvm/kvm_exit/format");
    let format =
        fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
    ensure!(
        format.lines().any(|line| line.contains("exit_reason;\toffset:8;\tsize:4;")),
        "kvm_exit's exit_reason is not at 8 in this kernel"
    );
    Ok(())
}

/// Fills in names of the reasons that `kvmexits.bt` names. The text makes no difference to the cost.
fn name_reasons(ebpf: &mut Ebpf) -> Result<()> {
    const NAMELESS: [u64; 9] = [3, 4, 5, 6, 11, 17, 35, 38, 42];
    let map = ebpf.map_mut("BT_NAME").context("no map BT_NAME")?;
    let mut names = HashMap::<&mut MapData, u64, BpftraceReasonName>::try_from(map)?;
    for reason in (0..=58).filter(|reason| !NAMELESS.contains(reason)) {
        let mut name = [0; 20];
        for (to, from) in name.iter_mut().zip(format!("REASON_{reason}").bytes()) {
            *to = from;
        }
        names.insert(reason, BpftraceReasonName(name), 0)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
#[repr(C, align(4))]
struct BpftraceReasonName([u8; 20]);

// SAFETY: bytes without gaps.
unsafe impl Pod for BpftraceReasonName {}
