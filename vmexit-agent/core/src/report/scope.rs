//! Which VMs and vCPUs of a report have tables.

/// What a report has tables of. Tables are what takes time to build: a live view of hundreds of VMs shows those of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// VMs with tables; the others have totals only.
    pub vms: Selection,
    /// Each vCPU of these VMs has tables too.
    pub vcpus: bool,
}

/// A choice of VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All VMs.
    #[default]
    All,
    /// The VM of this process id.
    Vm(u32),
    /// No VM.
    None,
}

impl Selection {
    /// Whether the VM of a process id is among them.
    pub fn includes(self, pid: u32) -> bool {
        match self {
            Self::All => true,
            Self::Vm(only) => only == pid,
            Self::None => false,
        }
    }
}
