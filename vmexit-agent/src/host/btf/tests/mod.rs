//! Tests with synthetic BTF, with BTF of real kernels, and with damaged BTF.

mod filter;
mod hostile;
mod kernels;
mod synthetic;
mod writer;

use std::sync::Arc;

use self::writer::BtfWriter;
use super::Btf;

/// Parses the BTF of a writer.
fn read(writer: &BtfWriter) -> Arc<Btf> {
    Arc::new(Btf::parse(writer.bytes(), None).unwrap())
}
