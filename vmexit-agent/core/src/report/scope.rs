//! Selection of the VMs and vCPUs of a report that have tables.

/// VMs and vCPUs with tables. Tables take most of the time to build: a live view of hundreds of VMs
/// shows those of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// VMs with tables; the others have totals only.
    pub vms: Selection,
    /// Whether each vCPU of these VMs has tables too.
    pub vcpus: bool,
}

/// A selection of VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All VMs.
    #[default]
    All,
    /// The VM with this process ID.
    Vm(u32),
    /// No VM.
    None,
}

impl Selection {
    /// Whether the VM with this process ID is selected.
    pub fn includes(self, pid: u32) -> bool {
        match self {
            Self::All => true,
            Self::Vm(only) => only == pid,
            Self::None => false,
        }
    }
}
