//! BTF written for the purpose, BTF of real kernels, and BTF that means harm.

mod filter;
mod hostile;
mod kernels;
mod synthetic;
mod writer;

use std::sync::Arc;

use self::writer::BtfWriter;
use super::Btf;

/// What a writer has written, read back.
fn read(writer: &BtfWriter) -> Arc<Btf> {
    Arc::new(Btf::parse(writer.bytes(), None).unwrap())
}
