//! How each tracepoint is read: raw where the running kernel's BTF tells where things are, else from
//! the classic record. Decided for each by itself, never by version number: kernels backport.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use vmexit_common::{
    layout::{ExitLayout, FieldsLayout, RIP, RawEntryLayout, RawExitLayout, reason_in},
    vcpu::{ISA_SVM, ISA_VMX},
};

use super::{
    Event,
    compat::{Fields, TRACEPOINTS, Tracepoint},
};
use crate::host::{
    btf::{Btf, BtfError, Param, Shape},
    tracefs::{LayoutError, Tracefs},
};

/// Which kind of tracepoint to use.
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

/// A tracepoint's way to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPath<R, C> {
    /// By its arguments.
    Raw(R),
    /// By its record, and why not by its arguments.
    Classic(C, FallbackReason),
}

/// FallbackReason a tracepoint is not read raw, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackReason(pub String);

impl fmt::Display for FallbackReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The ways of all tracepoints.
#[derive(Debug)]
pub struct AttachPlan {
    /// `kvm_exit`.
    pub exit: ReadPath<RawExitLayout, ExitLayout>,
    /// `kvm_entry`; only where the guest goes on is read from it, where that can be had.
    pub entry: ReadPath<RawEntryLayout, FieldsLayout>,
    /// The others of KVM's, by name; an error says why one can't be read, for much works without.
    pub details: BTreeMap<&'static str, Result<ReadPath<(), FieldsLayout>, LayoutError>>,
    /// How raw programs look into structs; `None` where they call `bpf_probe_read_kernel`, or need not
    /// look.
    pub cast: Option<Cast>,
}

/// What it takes to read the kernel's structs by plain loads (see [`vmexit_common::cast`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// BTF id of `bpf_rdonly_cast`.
    pub function: u32,
    /// BTF id of a struct that begins with a 64-bit integer.
    pub to: u32,
}

/// Where each vendor's KVM keeps the exit code, most recent place first: struct, path to a pointer
/// if there is one, struct behind it, path to the code.
struct Place {
    module: &'static str,
    isa: u32,
    vcpu: &'static str,
    pointer: Option<(&'static str, &'static str)>,
    reason: &'static str,
}

#[rustfmt::skip]
const PLACES: &[Place] = &[
    // arch/x86/kvm/vmx/vmx.h, common.h: moved into vcpu_vt in 6.16.
    Place { module: "kvm_intel", isa: ISA_VMX, vcpu: "vcpu_vmx", pointer: None, reason: "vt.exit_reason" },
    Place { module: "kvm_intel", isa: ISA_VMX, vcpu: "vcpu_vmx", pointer: None, reason: "exit_reason" },
    // arch/x86/kvm/svm/svm.h, arch/x86/include/asm/svm.h.
    Place { module: "kvm_amd", isa: ISA_SVM, vcpu: "vcpu_svm", pointer: Some(("vmcb", "vmcb")), reason: "control.exit_code" },
];

impl AttachPlan {
    /// Finds a way for each tracepoint.
    ///
    /// # Errors
    /// Where a required tracepoint can be read neither way, or not the one that was asked for.
    pub fn make(wanted: Tracepoints) -> Result<Self, LayoutError> {
        let mut kernel = Kernel::default();
        let exit = choose(wanted, kernel.exit(), || Tracefs::find()?.exit_layout())?;
        let looks =
            matches!(&exit, ReadPath::Raw(layout) if layout.reason_in != reason_in::ARGUMENT);
        Ok(Self {
            cast: if looks { kernel.cast() } else { None },
            exit,
            entry: choose(wanted, Ok(kernel.entry()), || Tracefs::find()?.entry_layout())?,
            details: TRACEPOINTS
                .iter()
                .filter_map(|tracepoint| Some((tracepoint.name, tracepoint.fields?)))
                .map(|(name, fields)| {
                    let classic = || Tracefs::find()?.fields_layout(name, fields.names);
                    (name, choose(wanted, kernel.passes(name, fields), classic))
                })
                .collect(),
        })
    }
}

impl AttachPlan {
    /// Tracepoints that these events want and that can't be read, and why not.
    pub fn missing(&self, events: &[Event]) -> Vec<(&'static Tracepoint, &LayoutError)> {
        let wanted = |tracepoint: &&Tracepoint| {
            tracepoint.event.is_some_and(|event| events.contains(&event))
        };
        let error = |name| self.details.get(name)?.as_ref().err();
        let missing = TRACEPOINTS.iter().filter(wanted);
        missing.filter_map(|tracepoint| Some((tracepoint, error(tracepoint.name)?))).collect()
    }
}

fn choose<R, C>(
    wanted: Tracepoints,
    raw: Result<R, FallbackReason>,
    classic: impl FnOnce() -> Result<C, LayoutError>,
) -> Result<ReadPath<R, C>, LayoutError> {
    let why = match (wanted, raw) {
        (Tracepoints::Classic, _) => FallbackReason("classic tracepoints were asked for".into()),
        (_, Ok(raw)) => return Ok(ReadPath::Raw(raw)),
        (Tracepoints::Raw, Err(FallbackReason(why))) => return Err(LayoutError::NoRaw(why)),
        (Tracepoints::Auto, Err(why)) => why,
    };
    Ok(ReadPath::Classic(classic()?, why))
}

/// The running kernel's BTF, loaded once and only if needed.
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
            // Up to 5.15 the code comes before the vCPU, and the structs need not be looked into.
            1 if parameters[0].ty.is_int(4) => {
                let isa = self.reason()?.isa;
                Ok(RawExitLayout {
                    reason_in: reason_in::ARGUMENT,
                    vcpu_id,
                    isa,
                    ..Default::default()
                })
            }
            _ => Err(FallbackReason(
                "kvm:kvm_exit has other arguments than any known kernel's".into(),
            )),
        }
    }

    /// Where KVM has the guest's instruction pointer. Nothing is lost but that where it can't be told.
    fn entry(&mut self) -> RawEntryLayout {
        self.rip().unwrap_or_else(|FallbackReason(why)| {
            log::debug!("raw kvm_entry does not tell the guest's instruction pointer: {why}");
            RawEntryLayout::default()
        })
    }

    /// `kvm_vcpu_arch` in arch/x86/include/asm/kvm_host.h: behind 16 general registers. Intel's is only read
    /// when KVM needs it (`vmx_cache_reg`, arch/x86/kvm/vmx/vmx.c).
    fn rip(&mut self) -> Result<RawEntryLayout, FallbackReason> {
        let passes_vcpu = |parameter: &Param| parameter.ty.is_pointer_to("kvm_vcpu");
        if !self.parameters("kvm_entry")?.first().is_some_and(passes_vcpu) {
            return Err(FallbackReason("kvm:kvm_entry does not pass the vCPU".into()));
        }
        let kvm = self.module("kvm")?;
        let registers = kvm.field("kvm_vcpu", "arch.regs")?;
        let rip = match kvm.field("kvm_vcpu", "arch.rip") {
            // On its own in 7.3.
            Ok(rip) if rip.ty.is_int(8) => rip.offset.into(),
            _ if registers.ty.shape == Shape::Array && registers.size == (RIP + 1) * 8 => {
                u64::from(registers.offset + RIP * 8)
            }
            _ => {
                return Err(FallbackReason(
                    "KVM caches other registers than any known kernel's".into(),
                ));
            }
        };
        if !Path::new("/sys/module/kvm_intel").exists() {
            return Ok(RawEntryLayout { rip, cached: 0 });
        }
        let cached = kvm.field("kvm_vcpu", "arch.regs_avail")?;
        // Bits of an int; in 7.3 a bitmap, which has this register's in its first four bytes too.
        let is_bitmap = cached.ty.shape == Shape::Array && cached.size.is_multiple_of(8);
        if !(cached.ty.is_int(4) || is_bitmap) {
            return Err(FallbackReason(
                "KVM notes which registers are cached as no known kernel does".into(),
            ));
        }
        Ok(RawEntryLayout { rip, cached: cached.offset.into() })
    }

    /// Where the vendor's module, whichever is loaded, keeps the exit code.
    fn reason(&mut self) -> Result<RawExitLayout, FallbackReason> {
        let loaded = |place: &&Place| Path::new("/sys/module").join(place.module).exists();
        let mut why = FallbackReason("neither kvm_intel nor kvm_amd is loaded".into());
        for place in PLACES.iter().filter(loaded) {
            match self.module(place.module).and_then(|btf| place.find(&btf)) {
                Ok(layout) => return Ok(layout),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Kernels from 6.2 on.
    fn cast(&self) -> Option<Cast> {
        const TO: &str = "timespec64";
        let vmlinux = self.vmlinux.as_ref()?;
        let first = vmlinux.field(TO, "tv_sec").ok()?;
        let fits = first.offset == 0 && first.ty.is_int(8);
        let function = vmlinux.function("bpf_rdonly_cast")?;
        fits.then_some(Cast { function, to: vmlinux.structure(TO).ok()? })
    }

    /// Whether a tracepoint passes these fields first of all, or after as many as are to be skipped. All known
    /// kernels do; yet one might change that one day.
    fn passes(&mut self, tracepoint: &str, fields: Fields) -> Result<(), FallbackReason> {
        let parameters = self.parameters(tracepoint)?;
        let as_known = |(at, &(name, size)): (usize, &(&str, u32))| {
            parameters.get(fields.skipped + at).is_some_and(|parameter| {
                // BTF keeps the names of a prototype's parameters in recent kernels only.
                let named = parameter.name.as_deref().is_none_or(|named| named == name);
                parameter.ty.is_number(size) && named
            })
        };
        let skipped =
            parameters.iter().take(fields.skipped).all(|parameter| parameter.ty.is_pointer());
        if skipped && fields.names.iter().enumerate().all(as_known) {
            Ok(())
        } else {
            Err(FallbackReason(format!(
                "kvm:{tracepoint} has other arguments than any known kernel's"
            )))
        }
    }
}

impl Place {
    fn find(&self, btf: &Btf) -> Result<RawExitLayout, FallbackReason> {
        let layout = RawExitLayout { isa: self.isa.into(), ..RawExitLayout::default() };
        let Some((pointer, pointee)) = self.pointer else {
            let reason = btf.field(self.vcpu, self.reason)?.offset.into();
            return Ok(RawExitLayout { reason_in: reason_in::FIELD, reason, ..layout });
        };
        // From 7.x on SVM's code has 64 bits; the lower half comes first and is enough.
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
