//! BTF written for the purpose, BTF of real kernels, and BTF that means harm.

mod filter;
mod hostile;
mod kernels;
mod synthetic;
mod writer;

use std::sync::Arc;

use self::writer::Writer;
use super::Btf;

/// What a writer has written, read back.
fn read(writer: &Writer) -> Arc<Btf> {
    Arc::new(Btf::parse(writer.bytes(), None).unwrap())
}
