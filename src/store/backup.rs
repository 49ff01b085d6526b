//! Copies of a whole store, made while it runs, and stores made from copies.
//!
//! ```text
//! <copy>/rows-00000   key length: u32, value length: u32, key, value; again and again, in the order of keys
//!        rows-00001   ...
//!        MANIFEST     what the copy is of, and the length and checksum of each file; text, checksummed itself; written last
//! ```
//!
//! A copy is of one snapshot, however long it takes. It holds rows, not the engine's files, so that a store of another format
//! can be made from it. A store made from a copy goes on with higher versions than the copied one had.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::embedded::{Restoring, io, make_private, sync_folder, write_synced};
use super::limits::SYSTEM;
use super::shared::Pin;
use super::{Error, Result, Store};
use crate::codec::Versionstamp;

const MANIFEST: &str = "MANIFEST";
const HEADER: &str = "lethe copy of a store, format 1";
/// A new file is begun after so many bytes.
const FILE_BYTES: u64 = 64 << 20;
/// No row is longer, so a longer one in a file is damage.
const ROW_BYTES_MAX: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupSummary {
    /// The commit version of the snapshot.
    pub version: u64,
    pub rows: u64,
    /// Bytes of the rows in the copy.
    pub bytes: u64,
}

/// Copies the whole store, as of now, into a folder that is empty or not there. The store goes on meanwhile.
///
/// The folder is a copy only once the file MANIFEST is in it, which is written last.
pub async fn backup(store: &Store, destination: &Path) -> Result<BackupSummary> {
    let Some(local) = store.engine.local() else {
        return Err(Error::Unsupported(
            "a store on FoundationDB is copied with FoundationDB's own fdbbackup".to_owned(),
        ));
    };
    let pin = local.pin()?;
    let destination = destination.to_owned();
    blocking(move || write_copy(&pin, &destination)).await
}

/// Makes a store from a copy, in a folder that is empty or not there.
///
/// The whole copy is checked first; a damaged one is refused before anything is written.
pub async fn restore_backup(source: &Path, destination: &Path) -> Result<BackupSummary> {
    let (source, destination) = (source.to_owned(), destination.to_owned());
    blocking(move || {
        let manifest = Manifest::read(&source)?;
        manifest.check(&source)?;
        refuse_used(&destination)?;
        let mut restoring =
            Restoring::begin(&destination, manifest.summary.version, manifest.metadata_version)?;
        for file in &manifest.files {
            read_rows(&source.join(&file.name), &mut |key, value| restoring.put(key, value))?;
        }
        restoring.finish()?;
        Ok(manifest.summary)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?
}

fn refuse_used(folder: &Path) -> Result<()> {
    make_private(folder)?;
    let mut entries = std::fs::read_dir(folder).map_err(io("list", folder))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::Format(format!("the folder {} is not empty", folder.display()))),
    }
}

/// One file of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RowFile {
    name: String,
    bytes: u64,
    checksum: u128,
}

impl RowFile {
    fn line(&self) -> String {
        format!("file {} {} {:032x}\n", self.name, self.bytes, self.checksum)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Manifest {
    summary: BackupSummary,
    metadata_version: Versionstamp,
    files: Vec<RowFile>,
}

impl Manifest {
    fn text(&self) -> String {
        let BackupSummary { version, rows, bytes } = self.summary;
        let mut text = format!(
            "{HEADER}\nversion {version}\nmetadata-version {}\nrows {rows}\nbytes {bytes}\n",
            self.metadata_version
        );
        text.extend(self.files.iter().map(RowFile::line));
        let checksum = xxh3_64(text.as_bytes());
        text + &format!("checksum {checksum:016x}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEADER {
            return None;
        }
        let mut number =
            |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let version = number("version")?.parse().ok()?;
        let metadata_version = number("metadata-version")?.parse().ok()?;
        let rows = number("rows")?.parse().ok()?;
        let bytes = number("bytes")?.parse().ok()?;
        let mut files = Vec::new();
        for line in lines {
            let Some(file) = line.strip_prefix("file ") else { break };
            let mut fields = file.split(' ');
            files.push(RowFile {
                name: fields.next()?.to_owned(),
                bytes: fields.next()?.parse().ok()?,
                checksum: u128::from_str_radix(fields.next()?, 16).ok()?,
            });
        }
        let manifest =
            Self { summary: BackupSummary { version, rows, bytes }, metadata_version, files };
        // Also checks the checksum, and that nothing else stands there.
        (manifest.text() == text).then_some(manifest)
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Format(format!(
                    "{} is no finished copy of a store: it has no {MANIFEST}",
                    folder.display()
                )));
            }
            Err(error) => return Err(io("read", &path)(error)),
        };
        let text = String::from_utf8(bytes).ok();
        text.and_then(|text| Self::parse(&text))
            .ok_or_else(|| damaged(&path, "it does not hold what was written to it"))
    }

    /// Checks every file against its checksum.
    fn check(&self, folder: &Path) -> Result<()> {
        for file in &self.files {
            let path = folder.join(&file.name);
            let mut reader = File::open(&path).map_err(io("open", &path))?;
            let (mut hash, mut bytes, mut buffer) = (Xxh3::new(), 0u64, vec![0; 1 << 20]);
            loop {
                let read = reader.read(&mut buffer).map_err(io("read", &path))?;
                let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
                hash.update(part);
                bytes += super::sequencer::count(read);
            }
            if bytes != file.bytes || hash.digest128() != file.checksum {
                return Err(damaged(&path, "its checksum is not the one in the manifest"));
            }
        }
        Ok(())
    }
}

fn damaged(path: &Path, detail: &str) -> Error {
    Error::Corrupt { detail: format!("{}: {detail}", path.display()) }
}

fn write_copy(pin: &Pin, destination: &Path) -> Result<BackupSummary> {
    refuse_used(destination)?;
    let mut writer = RowWriter::new(destination);
    let mut failed = None;
    pin.scan(&[], &[SYSTEM], &mut |key, value| match writer.put(&key, &value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    writer.end_file()?;
    let bytes = writer.files.iter().map(|file| file.bytes).sum();
    let summary = BackupSummary { version: pin.version(), rows: writer.rows, bytes };
    let manifest =
        Manifest { summary, metadata_version: pin.metadata_version(), files: writer.files };
    sync_folder(destination)?;
    write_synced(destination, MANIFEST, manifest.text().as_bytes())?;
    Ok(summary)
}

/// Writes rows into one file after the other.
struct RowWriter {
    folder: PathBuf,
    files: Vec<RowFile>,
    rows: u64,
    open: Option<OpenFile>,
}

struct OpenFile {
    name: String,
    path: PathBuf,
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl RowWriter {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Vec::new(), rows: 0, open: None }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(OpenFile::create(&self.folder, self.files.len())?),
        };
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        for part in [&length(key), &length(value), key, value] {
            open.file.write_all(part).map_err(io("write", &open.path))?;
            open.hash.update(part);
            open.bytes += super::sequencer::count(part.len());
        }
        self.rows += 1;
        if open.bytes >= FILE_BYTES { self.end_file() } else { Ok(()) }
    }

    fn end_file(&mut self) -> Result<()> {
        let Some(OpenFile { name, path, file, hash, bytes }) = self.open.take() else {
            return Ok(());
        };
        let file = file.into_inner().map_err(|error| io("write", &path)(error.into_error()))?;
        file.sync_all().map_err(io("sync", &path))?;
        self.files.push(RowFile { name, bytes, checksum: hash.digest128() });
        Ok(())
    }
}

impl OpenFile {
    fn create(folder: &Path, number: usize) -> Result<Self> {
        let name = format!("rows-{number:05}");
        let path = folder.join(&name);
        let file = BufWriter::new(File::create_new(&path).map_err(io("create", &path))?);
        Ok(Self { name, path, file, hash: Xxh3::new(), bytes: 0 })
    }
}

/// Hands over the rows of one file, whose checksum was right.
fn read_rows(path: &Path, row: &mut dyn FnMut(Bytes, Bytes) -> Result<()>) -> Result<()> {
    let mut file = BufReader::new(File::open(path).map_err(io("open", path))?);
    let mut lengths = [0; 8];
    loop {
        match file.read_exact(&mut lengths) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(io("read", path)(error)),
        }
        let (key_length, value_length) = lengths.split_at(4);
        let key = take(&mut file, key_length, path)?;
        let value = take(&mut file, value_length, path)?;
        row(key, value)?;
    }
}

fn take(file: &mut impl Read, length: &[u8], path: &Path) -> Result<Bytes> {
    let length = length.try_into().map_or(u32::MAX, u32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > ROW_BYTES_MAX {
        return Err(damaged(path, "a row is longer than any row can be"));
    }
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).map_err(io("read", path))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_every_flipped_byte_is_noticed() {
        let file = |number: u128| RowFile {
            name: format!("rows-{number}"),
            bytes: 7,
            checksum: number << 99,
        };
        let manifest = Manifest {
            summary: BackupSummary { version: 5, rows: 2, bytes: 14 },
            metadata_version: Versionstamp::new(3, 1),
            files: vec![file(1), file(2)],
        };
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text), Some(manifest));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let flipped = String::from_utf8(bytes).unwrap();
            assert_eq!(Manifest::parse(&flipped), None, "byte {at}");
        }
    }
}
