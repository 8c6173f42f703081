//! The labs' cache. Entries are made in a working directory and then moved, so that they are never incomplete. One
//! process at a time has the working directory; the next one clears the remains of a killed process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::error::{DuringIo, LabError};

/// An empty working directory in the cache, with the lock of the cache until dropped.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Waits for the lock of the cache and clears the working directory.
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

    /// Path of a file in the working directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Moves a finished entry to its place in the cache.
    pub(super) fn finish(&self, made: &Path, place: &Path) -> Result<(), LabError> {
        fs::rename(made, place).during(|| format!("move {} to its place", place.display()))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // If this fails, the next process clears the directory.
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
