//! Read paths of tracepoints: raw arguments where the running kernel's BTF has their layout, else the classic record.
//! Each tracepoint is decided separately, and never by the kernel's version, as distributions backport changes.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use vmexit_common::{
    layout::{ExitLayout, FieldsLayout, RIP, RawEntryLayout, RawExitLayout, reason_in},
    vcpu::{ISA_SVM, ISA_VMX},
};

use super::{
    Event,
    tracepoints::{Fields, TRACEPOINTS, Tracepoint},
};
use crate::host::{
    btf::{Btf, BtfError, Param, Shape},
    tracefs::{LayoutError, Tracefs},
};

/// Kind of tracepoints to attach to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tracepoints {
    /// Raw where possible, classic where not.
    #[default]
    Auto,
    /// Raw ones only: cheapest, and without tracefs.
    Raw,
    /// Classic ones only.
    Classic,
}

/// Read path of a tracepoint, with its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPath<R, C> {
    /// Arguments of the raw tracepoint.
    Raw(R),
    /// Record of the classic tracepoint, and the reason for this fallback.
    Classic(C, FallbackReason),
}

impl<R, C> ReadPath<R, C> {
    /// Whether this is the raw tracepoint.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self, Self::Raw(_))
    }
}

/// Reason why a tracepoint is not read raw: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackReason(pub String);

impl fmt::Display for FallbackReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Read paths of all tracepoints.
#[derive(Debug)]
pub struct AttachPlan {
    /// Read path of `kvm_exit`.
    pub exit: ReadPath<RawExitLayout, ExitLayout>,
    /// Read path of `kvm_entry`. Only the guest's instruction pointer is read from it, where available.
    pub entry: ReadPath<RawEntryLayout, FieldsLayout>,
    /// Read paths of KVM's other tracepoints by name, or why one can't be read; they are optional.
    pub details: BTreeMap<&'static str, Result<ReadPath<(), FieldsLayout>, LayoutError>>,
    /// Function for plain loads from kernel structs; `None` where raw programs call `bpf_probe_read_kernel`, or read
    /// no structs.
    pub cast: Option<Cast>,
}

/// BTF IDs for plain loads from kernel structs (see [`vmexit_common::cast`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// BTF ID of `bpf_rdonly_cast`.
    pub function: u32,
    /// BTF ID of a struct that begins with a 64-bit integer.
    pub to: u32,
}

/// Location of the exit code in the structs of a KVM module.
struct ReasonLocation {
    module: &'static str,
    isa: u32,
    /// Struct that embeds `kvm_vcpu`.
    vcpu: &'static str,
    /// Member of `vcpu` that points to another struct, and that struct, if the exit code is there.
    pointer: Option<(&'static str, &'static str)>,
    /// Path of the exit code in the last struct.
    reason: &'static str,
}

/// Known locations, of the newest kernels first.
#[rustfmt::skip]
const REASON_LOCATIONS: &[ReasonLocation] = &[
    // arch/x86/kvm/vmx/vmx.h, common.h: moved into vcpu_vt in 6.16.
    ReasonLocation { module: "kvm_intel", isa: ISA_VMX, vcpu: "vcpu_vmx", pointer: None, reason: "vt.exit_reason" },
    ReasonLocation { module: "kvm_intel", isa: ISA_VMX, vcpu: "vcpu_vmx", pointer: None, reason: "exit_reason" },
    // arch/x86/kvm/svm/svm.h, arch/x86/include/asm/svm.h.
    ReasonLocation { module: "kvm_amd", isa: ISA_SVM, vcpu: "vcpu_svm", pointer: Some(("vmcb", "vmcb")), reason: "control.exit_code" },
];

impl AttachPlan {
    /// Finds a read path for each tracepoint.
    ///
    /// # Errors
    /// A required tracepoint can't be read by a path that `wanted` allows.
    pub fn make(wanted: Tracepoints) -> Result<Self, LayoutError> {
        let mut kernel = Kernel::default();
        let exit = choose_path(wanted, kernel.exit(), || Tracefs::find()?.exit_layout())?;
        let reads_structs =
            matches!(&exit, ReadPath::Raw(layout) if layout.reason_in != reason_in::ARGUMENT);
        Ok(Self {
            cast: if reads_structs { kernel.cast() } else { None },
            exit,
            entry: choose_path(wanted, Ok(kernel.entry()), || Tracefs::find()?.entry_layout())?,
            details: TRACEPOINTS
                .iter()
                .filter_map(|tracepoint| Some((tracepoint.name, tracepoint.fields?)))
                .map(|(name, fields)| {
                    let classic = || Tracefs::find()?.fields_layout(name, fields.names);
                    (name, choose_path(wanted, kernel.passes(name, fields), classic))
                })
                .collect(),
        })
    }

    /// Tracepoints of these events that can't be read, and why.
    pub fn missing(&self, events: &[Event]) -> Vec<(&'static Tracepoint, &LayoutError)> {
        let wanted = |tracepoint: &&Tracepoint| {
            tracepoint.event.is_some_and(|event| events.contains(&event))
        };
        let error = |name| self.details.get(name)?.as_ref().err();
        let missing = TRACEPOINTS.iter().filter(wanted);
        missing.filter_map(|tracepoint| Some((tracepoint, error(tracepoint.name)?))).collect()
    }
}

fn choose_path<R, C>(
    wanted: Tracepoints,
    raw: Result<R, FallbackReason>,
    classic: impl FnOnce() -> Result<C, LayoutError>,
) -> Result<ReadPath<R, C>, LayoutError> {
    let why = match (wanted, raw) {
        (Tracepoints::Classic, _) => FallbackReason("--tracepoints classic was given".into()),
        (_, Ok(raw)) => return Ok(ReadPath::Raw(raw)),
        (Tracepoints::Raw, Err(FallbackReason(why))) => return Err(LayoutError::NoRaw(why)),
        (Tracepoints::Auto, Err(why)) => why,
    };
    Ok(ReadPath::Classic(classic()?, why))
}

/// BTF of the running kernel, loaded on first use.
#[derive(Default)]
struct Kernel {
    vmlinux: Option<Arc<Btf>>,
}

impl Kernel {
    fn module(&mut self, name: &str) -> Result<Arc<Btf>, FallbackReason> {
        let vmlinux = match &self.vmlinux {
            Some(vmlinux) => vmlinux,
            None => self.vmlinux.insert(Btf::vmlinux()?),
        };
        Ok(Btf::module(name, vmlinux)?)
    }

    fn parameters(&mut self, tracepoint: &str) -> Result<Vec<Param>, FallbackReason> {
        self.module("kvm")?.params_of_tracepoint(tracepoint).ok_or_else(|| {
            FallbackReason(format!("this kernel's BTF does not describe kvm:{tracepoint}"))
        })
    }

    fn exit(&mut self) -> Result<RawExitLayout, FallbackReason> {
        let parameters = self.parameters("kvm_exit")?;
        let is_vcpu = |parameter: &Param| parameter.ty.is_pointer_to("kvm_vcpu");
        let vcpu = parameters
            .iter()
            .position(is_vcpu)
            .filter(|&at| at < 2)
            .ok_or_else(|| FallbackReason("kvm:kvm_exit does not pass the vCPU".into()))?;
        let vcpu_id = self.module("kvm")?.field("kvm_vcpu", "vcpu_id")?.offset.into();
        match vcpu {
            0 => Ok(RawExitLayout { vcpu_id, ..self.reason()? }),
            // Up to 5.15 the exit code is an argument before the vCPU: no struct has to be read.
            1 if parameters[0].ty.is_int(4) => {
                let isa = self.reason()?.isa;
                Ok(RawExitLayout {
                    reason_in: reason_in::ARGUMENT,
                    vcpu_id,
                    isa,
                    ..Default::default()
                })
            }
            _ => Err(FallbackReason("kvm:kvm_exit has arguments that no known kernel has".into())),
        }
    }

    /// Location of the guest's instruction pointer; it is optional.
    fn entry(&mut self) -> RawEntryLayout {
        self.rip().unwrap_or_else(|FallbackReason(why)| {
            log::debug!("no instruction pointer from raw kvm_entry: {why}");
            RawEntryLayout::default()
        })
    }

    /// Location in `kvm_vcpu_arch` (arch/x86/include/asm/kvm_host.h), after 16 general registers. On Intel the value
    /// is only there once KVM has read it (`vmx_cache_reg`, arch/x86/kvm/vmx/vmx.c).
    fn rip(&mut self) -> Result<RawEntryLayout, FallbackReason> {
        let passes_vcpu = |parameter: &Param| parameter.ty.is_pointer_to("kvm_vcpu");
        if !self.parameters("kvm_entry")?.first().is_some_and(passes_vcpu) {
            return Err(FallbackReason("kvm:kvm_entry does not pass the vCPU".into()));
        }
        let kvm = self.module("kvm")?;
        let registers = kvm.field("kvm_vcpu", "arch.regs")?;
        let rip = match kvm.field("kvm_vcpu", "arch.rip") {
            // A member of its own since 7.3.
            Ok(rip) if rip.ty.is_int(8) => rip.offset.into(),
            _ if registers.ty.shape == Shape::Array && registers.size == (RIP + 1) * 8 => {
                u64::from(registers.offset + RIP * 8)
            }
            _ => {
                return Err(FallbackReason(
                    "kvm_vcpu has a register cache that no known kernel has".into(),
                ));
            }
        };
        if !Path::new("/sys/module/kvm_intel").exists() {
            return Ok(RawEntryLayout { rip, cached: 0 });
        }
        let cached = kvm.field("kvm_vcpu", "arch.regs_avail")?;
        // An int; since 7.3 a bitmap, with this register's bit in its first four bytes too.
        let is_bitmap = cached.ty.shape == Shape::Array && cached.size.is_multiple_of(8);
        if !(cached.ty.is_int(4) || is_bitmap) {
            return Err(FallbackReason(
                "kvm_vcpu has a mask of cached registers that no known kernel has".into(),
            ));
        }
        Ok(RawEntryLayout { rip, cached: cached.offset.into() })
    }

    /// Location of the exit code, of the vendor's module that is loaded.
    fn reason(&mut self) -> Result<RawExitLayout, FallbackReason> {
        let loaded =
            |location: &&ReasonLocation| Path::new("/sys/module").join(location.module).exists();
        let mut why = FallbackReason("neither kvm_intel nor kvm_amd is loaded".into());
        for location in REASON_LOCATIONS.iter().filter(loaded) {
            match self.module(location.module).and_then(|btf| location.find(&btf)) {
                Ok(layout) => return Ok(layout),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// BTF IDs for plain loads; kernels since 6.2 have the function.
    fn cast(&self) -> Option<Cast> {
        const TO: &str = "timespec64";
        let vmlinux = self.vmlinux.as_ref()?;
        let first = vmlinux.field(TO, "tv_sec").ok()?;
        let fits = first.offset == 0 && first.ty.is_int(8);
        let function = vmlinux.function("bpf_rdonly_cast")?;
        fits.then_some(Cast { function, to: vmlinux.structure(TO).ok()? })
    }

    /// Checks that a raw tracepoint has these fields as arguments, after the skipped ones. All known kernels do; a
    /// future one may not.
    fn passes(&mut self, tracepoint: &str, fields: Fields) -> Result<(), FallbackReason> {
        let parameters = self.parameters(tracepoint)?;
        let as_known = |(at, &(name, size)): (usize, &(&str, u32))| {
            parameters.get(fields.skipped + at).is_some_and(|parameter| {
                // Only BTF of recent kernels has the names of a prototype's parameters.
                let named = parameter.name.as_deref().is_none_or(|named| named == name);
                parameter.ty.is_number(size) && named
            })
        };
        let skipped =
            parameters.iter().take(fields.skipped).all(|parameter| parameter.ty.is_pointer());
        if skipped && fields.names.iter().enumerate().all(as_known) {
            Ok(())
        } else {
            Err(FallbackReason(format!("kvm:{tracepoint} has arguments that no known kernel has")))
        }
    }
}

impl ReasonLocation {
    fn find(&self, btf: &Btf) -> Result<RawExitLayout, FallbackReason> {
        let layout = RawExitLayout { isa: self.isa.into(), ..RawExitLayout::default() };
        let Some((pointer, pointee)) = self.pointer else {
            let reason = btf.field(self.vcpu, self.reason)?.offset.into();
            return Ok(RawExitLayout { reason_in: reason_in::FIELD, reason, ..layout });
        };
        // 64 bits on SVM since 7.x: the lower half comes first and has all codes.
        Ok(RawExitLayout {
            reason_in: reason_in::POINTEE,
            pointer: btf.field(self.vcpu, pointer)?.offset.into(),
            reason: btf.field(pointee, self.reason)?.offset.into(),
            ..layout
        })
    }
}

impl From<BtfError> for FallbackReason {
    fn from(error: BtfError) -> Self {
        Self(error.to_string())
    }
}
