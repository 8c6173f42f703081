//! Field access through raw pointers into maps that userspace reads concurrently.
//!
//! All accesses are volatile: each store happens exactly once and in program order. The readers'
//! sequence numbers rely on that order, and x86 keeps it too.

/// Reads a field of a map value.
macro_rules! load {
    ($ptr:expr, $field:ident $(. $part:ident)? $([$index:expr])?) => {
        // SAFETY: the pointer comes from a map lookup and is valid for the whole program.
        unsafe { core::ptr::read_volatile(&raw const (*$ptr).$field $(. $part)? $([$index])?) }
    };
}

/// Writes a field of a map value.
macro_rules! store {
    ($ptr:expr, $field:ident $(. $part:ident)? $([$index:expr])?, $value:expr) => {{
        let value = $value;
        // SAFETY: as in `load`; the vCPU's thread is the only writer.
        unsafe { core::ptr::write_volatile(&raw mut (*$ptr).$field $(. $part)? $([$index])?, value) }
    }};
}

/// Adds to a counter in a map value.
macro_rules! add {
    ($ptr:expr, $field:ident $(. $part:ident)? $([$index:expr])?, $amount:expr) => {
        $crate::access::store!(
            $ptr,
            $field $(. $part)? $([$index])?,
            $crate::access::load!($ptr, $field $(. $part)? $([$index])?) + $amount
        )
    };
}

pub(crate) use {add, load, store};
