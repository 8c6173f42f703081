//! Debian's Prometheus, unpacked and not installed: the package would start it for the whole machine.

use std::path::PathBuf;

use crate::lab::{LabError, default_cache, unpack_package};

/// Where `prometheus` and `promtool` are; downloaded the first time.
pub fn programs() -> Result<PathBuf, LabError> {
    let cache = default_cache();
    let unpacked = cache.join("prometheus");
    let programs = unpacked.join("usr/bin");
    if !programs.join("promtool").is_file() {
        unpack_package(&cache, "prometheus", "", &unpacked)?;
    }
    Ok(programs)
}
