//! The data folder: what lies in it, its lock, and its format.
//!
//! ```text
//! <folder>/FORMAT      which program may open it (text, checksummed)
//!          LOCK        held while a process has it open
//!          COMMITTED   the last commit that was synced: see `committed`
//!          fjall/      the engine's own files
//! ```
//!
//! FORMAT is written last when a store is created, so that a folder without one is a creation that never finished.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::store::{Error, Result};

/// The format that this program writes. Raise it when the layout of the folder or of the store's own keys changes.
pub(super) const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const COMMITTED_FILE: &str = "COMMITTED";
const ENGINE_FOLDER: &str = "fjall";

/// A folder that this process, and no other, has open.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Holds the lock until it is closed.
    _lock: File,
}

impl Folder {
    /// Creates the folder if need be and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        make_private(path)?;
        let path = path.canonicalize().map_err(io("open", path))?;
        let foreign = foreign_entries(&path)?;
        if !path.join(FORMAT_FILE).exists() && !foreign.is_empty() {
            return Err(Error::Format(format!(
                "{} is no data folder of this program and is not empty: it holds '{}'",
                path.display(),
                foreign.join("', '"),
            )));
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Format(format!(
                "the data folder {} is in use by another process",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(Error::io("lock the data folder", error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE_FOLDER)
    }

    pub(super) fn committed(&self) -> PathBuf {
        self.path.join(COMMITTED_FILE)
    }

    /// Whether a store was created here; refuses one of another format.
    pub(super) fn check_format(&self) -> Result<bool> {
        let path = self.path.join(FORMAT_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io("read", &path)(error)),
        };
        let folder = self.path.display();
        let format = parse_format(&text).ok_or_else(|| Error::Corrupt {
            detail: format!("{} does not hold what was written to it", path.display()),
        })?;
        match format {
            FORMAT => Ok(true),
            newer if newer > FORMAT => Err(Error::Format(format!(
                "the data folder {folder} has format {newer}, and this program knows formats up to {FORMAT}: \
                 use the program that wrote it, or a newer one"
            ))),
            older => Err(Error::Format(format!(
                "the data folder {folder} has format {older}, and this program writes format {FORMAT}: \
                 copy it with the program that wrote it, 'lethe backup', \
                 and load the copy with this one, 'lethe restore-backup'"
            ))),
        }
    }

    /// Removes what is left of a creation that never finished.
    pub(super) fn clear_unfinished(&self) -> Result<()> {
        let engine = self.engine();
        match std::fs::remove_dir_all(&engine) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io("remove", &engine)(error)),
        }
    }

    /// Marks the store as created.
    pub(super) fn write_format(&self) -> Result<()> {
        write_synced(&self.path, FORMAT_FILE, format_text(FORMAT).as_bytes())
    }
}

fn foreign_entries(path: &Path) -> Result<Vec<String>> {
    let own = [FORMAT_FILE, LOCK_FILE, COMMITTED_FILE, ENGINE_FOLDER, "lost+found"];
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io("list", path))? {
        let name = entry.map_err(io("list", path))?.file_name().to_string_lossy().into_owned();
        if !own.contains(&name.as_str()) {
            foreign.push(name);
        }
    }
    Ok(foreign)
}

fn format_text(format: u32) -> String {
    let line = format!("lethe data folder, format {format}\n");
    format!("{line}checksum {:016x}\n", xxh3_64(line.as_bytes()))
}

fn parse_format(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let number = text.strip_prefix("lethe data folder, format ")?.lines().next()?;
    let format = number.parse().ok()?;
    (format_text(format) == text).then_some(format)
}

/// Makes a folder, and those on the way to it, that only this user may look into: all documents lie in it. One that is
/// there stays as its owner made it.
pub(in crate::store) fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))
}

/// Writes a file so that after a crash it is there whole or not at all.
pub(in crate::store) fn write_synced(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write", &path))?;
    file.write_all(bytes).map_err(io("write", &path))?;
    file.as_file().sync_all().map_err(io("sync", &path))?;
    file.persist(&path).map_err(|error| io("write", &path)(error.error))?;
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub(in crate::store) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", folder))
}

/// An error of the operating system about a path.
pub(in crate::store) fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let context = format!("cannot {what} {}", path.display());
    move |error| Error::io(context, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_text_of_a_format_is_taken() {
        assert_eq!(parse_format(format_text(1).as_bytes()), Some(1));
        let mut text = format_text(1).into_bytes();
        for at in 0..text.len() {
            text[at] ^= 1;
            assert_eq!(parse_format(&text), None, "byte {at}");
            text[at] ^= 1;
        }
        assert_eq!(parse_format(b""), None);
    }

    #[test]
    fn a_newer_format_is_refused_and_an_older_one_names_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let locked = Folder::lock(folder.path()).unwrap();
        std::fs::write(folder.path().join(FORMAT_FILE), format_text(FORMAT + 1)).unwrap();
        let newer = locked.check_format().unwrap_err().to_string();
        assert!(newer.contains("format 2") && newer.contains("newer"), "{newer}");
        std::fs::write(folder.path().join(FORMAT_FILE), format_text(0)).unwrap();
        let older = locked.check_format().unwrap_err().to_string();
        assert!(older.contains("lethe backup"), "{older}");
    }

    #[test]
    fn nobody_else_may_look_into_a_new_folder() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let _lock = Folder::lock(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_foreign_folder_and_a_folder_in_use_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = Folder::lock(folder.path()).unwrap();
        let busy = Folder::lock(folder.path()).unwrap_err().to_string();
        assert!(busy.contains("in use"), "{busy}");
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("photo.jpg"), b"x").unwrap();
        let foreign = Folder::lock(other.path()).unwrap_err().to_string();
        assert!(foreign.contains("photo.jpg"), "{foreign}");
    }
}
