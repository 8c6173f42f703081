//! A minimal VMM that runs thousands of busy vCPUs, and a handle on the program `vmexit-vcpus` that contains it.
//! The bench measures with it what many vCPUs cost an observer.
//!
//! Each vCPU is a thread. Its guest has five instructions and writes to one port after the other. It makes five
//! exits, then sleeps until its next fifth of a second. A VM has eight vCPUs. Each VM is a process of its own,
//! because observers identify VMs by process.

use std::{
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio, exit},
    sync::{Arc, mpsc},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use memmap2::{MmapMut, MmapRaw};

/// Number of ports that each vCPU writes to. It writes to all of them within any second.
pub const PORTS: u16 = 20;

/// First of these ports. KVM itself has no device at any of them.
const FIRST_PORT: u16 = 0x5000;

/// Maximum number of vCPUs of one VM.
const PER_VM: u32 = 8;

/// Exits per round.
const PER_ROUND: usize = 5;

/// Time between the beginnings of two rounds.
const ROUND: Duration = Duration::from_millis(200);

/// Guest physical address of the guest's only page of memory.
const PAGE: u64 = 0x1000;

/// Line that the program prints once all vCPUs run.
const READY: &str = "ready";

/// A running `vmexit-vcpus`. It ends when the value is dropped or this process is killed.
#[derive(Debug)]
pub struct Vcpus {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Vcpus {
    /// Starts so many vCPUs, and waits until each has made its first round.
    ///
    /// # Errors
    ///
    /// When the program can't be started or ends before all vCPUs run.
    pub fn start(program: &Path, vcpus: u32) -> Result<Self> {
        let mut started = Self::spawn(program, vcpus)?;
        started.ready()?;
        Ok(started)
    }

    fn spawn(program: &Path, vcpus: u32) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(vcpus.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    fn ready(&mut self) -> Result<()> {
        let stdout = self.child.stdout.take().context("vmexit-vcpus was asked twice")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim_end() == READY, "vmexit-vcpus ended before all its vCPUs ran");
        Ok(())
    }

    /// Process ID of the program. With more vCPUs than one VM has, the VMs are its child processes.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the program to end, without waiting for it.
    fn end(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.end();
        // This fails only if the program was waited for already.
        let _ = self.child.wait();
    }
}

/// Main function of `vmexit-vcpus`: runs so many vCPUs, prints a line once all run, and returns when standard
/// input ends.
///
/// For more vCPUs than one VM has, it starts child processes of the same program, one for each VM.
///
/// # Errors
///
/// When KVM can't be used or a child process fails.
pub fn run(program: &Path, vcpus: u32) -> Result<()> {
    let mut children = Vec::new();
    if vcpus <= PER_VM {
        run_vm(vcpus)?;
    } else {
        for first in (0..vcpus).step_by(PER_VM as usize) {
            children.push(Vcpus::spawn(program, PER_VM.min(vcpus - first))?);
        }
        children.iter_mut().try_for_each(Vcpus::ready)?;
    }
    println!("{READY}");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    // All children are asked to end before the first is waited for.
    children.iter_mut().for_each(Vcpus::end);
    Ok(())
}

/// Starts the vCPUs of a VM, and waits until each has made its first round. They run until the process ends.
fn run_vm(vcpus: u32) -> Result<()> {
    let vm = Arc::new(MinimalVm::create()?);
    let (done, rounds) = mpsc::channel();
    for number in 0..vcpus {
        let (vm, done) = (vm.clone(), done.clone());
        // QEMU's name for a vCPU thread.
        let thread = thread::Builder::new().name(format!("CPU {number}/KVM"));
        thread.spawn(move || {
            if let Err(error) = run_vcpu(&vm, number, &done) {
                eprintln!("vmexit-vcpus: vCPU {number}: {error:#}");
                exit(1);
            }
        })?;
    }
    rounds.iter().take(vcpus as usize).for_each(drop);
    Ok(())
}

/// A VM of this process, whose vCPUs start and end.
pub struct InProcessVm {
    vm: MinimalVm,
    next: u32,
}

impl InProcessVm {
    /// A VM without a vCPU.
    ///
    /// # Errors
    ///
    /// When KVM can't create it.
    pub fn create() -> Result<Self> {
        Ok(Self { vm: MinimalVm::create()?, next: 0 })
    }

    /// Runs so many vCPUs at once. Each writes so many times to each of its ports, and ends with its thread.
    ///
    /// # Errors
    ///
    /// When KVM can't create or run a vCPU.
    pub fn burst(&mut self, vcpus: u32, times: u32) -> Result<()> {
        let numbers = self.next..self.next + vcpus;
        self.next = numbers.end;
        let vm = &self.vm;
        let one = |number| -> Result<()> {
            let mut vcpu = vm.vcpu(number)?;
            (0..times * u32::from(PORTS)).try_for_each(|_| exit_once(&mut vcpu))
        };
        thread::scope(|scope| {
            let threads: Vec<_> = numbers.map(|number| scope.spawn(move || one(number))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("it panics"))?)
        })
    }

    /// Ports that the vCPUs write to.
    pub fn ports() -> impl Iterator<Item = u16> {
        FIRST_PORT..FIRST_PORT + PORTS
    }
}

/// Runs one vCPU. Returns only on an error.
fn run_vcpu(vm: &MinimalVm, number: u32, done: &mpsc::Sender<()>) -> Result<()> {
    let mut vcpu = vm.vcpu(number)?;
    // Rounds of the vCPUs are spread over time.
    let mut next = Instant::now() + ROUND * number / PER_VM;
    let mut first = true;
    loop {
        sleep(next.saturating_duration_since(Instant::now()));
        // A late round does not shorten the time to the next one.
        next = next.max(Instant::now()) + ROUND;
        for _ in 0..PER_ROUND {
            exit_once(&mut vcpu)?;
        }
        if first {
            done.send(()).context("nobody waits for the first round")?;
            first = false;
        }
    }
}

/// Lets the vCPU run up to its next port access.
pub(super) fn exit_once(vcpu: &mut VcpuFd) -> Result<()> {
    match vcpu.run().context("KVM does not run it")? {
        VcpuExit::IoOut(..) => Ok(()),
        other => bail!("it left for {other:?}, not to write to a port"),
    }
}

/// A VM with one page of memory that holds the guest.
pub(super) struct MinimalVm {
    // Drop order: the VM uses the memory.
    vm: VmFd,
    _memory: MmapRaw,
}

impl MinimalVm {
    pub(super) fn create() -> Result<Self> {
        let vm = Kvm::new().and_then(|kvm| kvm.create_vm()).context("KVM makes no VM")?;
        let mut memory = MmapMut::map_anon(4096)?;
        let code = code();
        memory[..code.len()].copy_from_slice(&code);
        let memory = MmapRaw::from(memory);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: PAGE,
            memory_size: memory.len() as u64,
            userspace_addr: memory.as_ptr() as u64,
        };
        // SAFETY: the mapping lives as long as the VM, and this process no longer reads or writes it.
        unsafe { vm.set_user_memory_region(region) }.context("KVM takes no memory")?;
        Ok(Self { vm, _memory: memory })
    }

    /// Closes the VM's descriptor. Its vCPUs still run; the memory is kept for them until the process ends.
    pub(super) fn close(self) {
        let Self { vm, _memory: memory } = self;
        drop(vm);
        std::mem::forget(memory);
    }

    /// A new vCPU, in real mode, at the guest's first instruction.
    pub(super) fn vcpu(&self, number: u32) -> Result<VcpuFd> {
        let vcpu = self.vm.create_vcpu(number.into()).context("KVM makes no vCPU")?;
        let mut segments = vcpu.get_sregs()?;
        segments.cs.base = 0;
        segments.cs.selector = 0;
        vcpu.set_sregs(&segments)?;
        let mut registers = vcpu.get_regs()?;
        registers.rip = PAGE;
        registers.rflags = 2;
        vcpu.set_regs(&registers)?;
        Ok(vcpu)
    }
}

/// Machine code of the guest, position independent.
#[rustfmt::skip]
fn code() -> Vec<u8> {
    let [port, port_high] = FIRST_PORT.to_le_bytes();
    let [ports, ports_high] = PORTS.to_le_bytes();
    vec![
        0xba, port, port_high,      // 1: mov  $FIRST_PORT, %dx
        0xb9, ports, ports_high,    //    mov  $PORTS, %cx
        0xee,                       // 2: outb %al, %dx
        0x42,                       //    inc  %dx
        0xe2, 0xfc,                 //    loop 2b
        0xeb, 0xf4,                 //    jmp  1b
    ]
}
