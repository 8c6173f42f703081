//! The lab's cache: things appear in it whole or not at all, made by one process at a time in a
//! workplace of its own and then moved. Whatever a killed process left in the workplace is cleared.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{DuringIo, LabError};

/// An empty directory in the cache, and the right to add to the cache, until dropped.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Waits until no other process works in the cache.
    pub(super) fn enter(cache: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(cache).during(|| format!("create {}", cache.display()))?;
        let path = cache.join("lock");
        let lock = File::create(&path).during(|| format!("create {}", path.display()))?;
        lock.lock().during(|| format!("lock {}", path.display()))?;
        let dir = cache.join("unfinished");
        if dir.exists() {
            fs::remove_dir_all(&dir).during(|| format!("clear {}", dir.display()))?;
        }
        fs::create_dir(&dir).during(|| format!("create {}", dir.display()))?;
        Ok(Self { dir, _lock: lock })
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Moves something finished to its place in the cache.
    pub(super) fn finish(&self, made: &Path, place: &Path) -> Result<(), LabError> {
        fs::rename(made, place).during(|| format!("move {} to its place", place.display()))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // If this fails, the next one to enter clears it.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_clears_unfinished_work() {
        let cache = tempfile::tempdir().unwrap();
        let killed = cache.path().join("unfinished/kernel");
        fs::create_dir_all(&killed).unwrap();
        let place = Workplace::enter(cache.path()).unwrap();
        assert!(!killed.exists());
        fs::write(place.path("x"), "made").unwrap();
        place.finish(&place.path("x"), &cache.path().join("x")).unwrap();
        drop(place);
        assert_eq!(fs::read_to_string(cache.path().join("x")).unwrap(), "made");
        assert!(!cache.path().join("unfinished").exists());
    }

    #[test]
    fn cache_admits_one_writer_at_a_time() {
        let cache = tempfile::tempdir().unwrap();
        let place = Workplace::enter(cache.path()).unwrap();
        let second = File::open(cache.path().join("lock")).unwrap();
        assert!(second.try_lock().is_err());
        drop(place);
        assert!(second.try_lock().is_ok());
    }
}
