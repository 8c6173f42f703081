//! `vmexit vms`: which VMs there are. Nothing is traced.

use super::{args::VmsArgs, error::Error, output::Output};
use crate::{
    guest::{self, Found},
    view,
};

pub(super) async fn run(args: VmsArgs) -> Result<(), Error> {
    let list = view::vms(&running()?, args.format)?;
    Output::open(None).await?.write(list).await
}

/// The VMs of this host, one at least.
pub(super) fn running() -> Result<Found, Error> {
    let found = guest::find_all()?;
    match found.vms.as_slice() {
        [] if found.is_blind() => Err(Error::HiddenVms(found.hidden)),
        [] => Err(Error::NoVm),
        _ => Ok(found),
    }
}
