//! A disk in memory that fails, or loses its power, at any step, and knows what a sync has made durable.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::store::{Created, Disk, StoreError};

/// What happens at a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing is done, and an error comes back.
    Refused,
    /// It is done (a write by half), and an error comes back all the same.
    DoneButFailed,
    /// The power goes before it.
    PowerOff,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::Refused, Self::DoneButFailed, Self::PowerOff];
}

/// What is left of contents that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    Nothing,
    Half,
    All,
}

#[derive(Clone)]
enum NameChange {
    Gone(PathBuf),
    Is(PathBuf, usize),
    Moved(PathBuf, PathBuf),
}

#[derive(Clone, Default)]
struct Contents {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Default)]
struct Inside {
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<NameChange>,
    steps: usize,
    fault: Option<(usize, Fault)>,
    off: bool,
}

/// The disk. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<Inside>>);

fn change(names: &mut BTreeMap<PathBuf, usize>, what: &NameChange) {
    match what {
        NameChange::Gone(path) => {
            names.remove(path);
        }
        NameChange::Is(path, file) => {
            names.insert(path.clone(), *file);
        }
        NameChange::Moved(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl MemoryDisk {
    /// Lets `fault` happen at this step, counted from now.
    pub(crate) fn fail_at(&self, step: usize, fault: Fault) {
        let mut inside = self.0.lock().unwrap();
        inside.fault = Some((inside.steps + step, fault));
    }

    pub(crate) fn steps(&self) -> usize {
        self.0.lock().unwrap().steps
    }

    /// How many changes of names no sync has made durable.
    pub(crate) fn pending(&self) -> usize {
        self.0.lock().unwrap().pending.len()
    }

    /// The disk as it is found when the power comes back: the first `names` changes of names arrived.
    pub(crate) fn after_power_loss(&self, names: usize, left: Left) -> Self {
        let mut inside = self.0.lock().unwrap().clone();
        for what in &inside.pending[..names] {
            change(&mut inside.durable, what);
        }
        for file in &mut inside.files {
            let written = file.written.len();
            match left {
                Left::Nothing => file.written = file.synced.clone(),
                Left::Half => file.written.truncate(file.synced.len().max(written / 2)),
                Left::All => {}
            }
            file.synced = file.written.clone();
        }
        inside.names = inside.durable.clone();
        inside.pending.clear();
        inside.fault = None;
        inside.off = false;
        Self(Arc::new(Mutex::new(inside)))
    }

    pub(crate) fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let inside = self.0.lock().unwrap();
        inside.names.get(path).map(|file| inside.files[*file].written.clone())
    }

    /// Puts a file there or takes it away, durably, as somebody with the disk in hand would.
    pub(crate) fn plant(&self, path: &Path, bytes: Option<&[u8]>) {
        let mut inside = self.0.lock().unwrap();
        inside.names.remove(path);
        if let Some(bytes) = bytes {
            let file = inside.files.len();
            inside.files.push(Contents { written: bytes.to_vec(), synced: bytes.to_vec() });
            inside.names.insert(path.to_path_buf(), file);
        }
        inside.durable = inside.names.clone();
        inside.pending.clear();
    }

    /// Does `work` unless this step's fault says otherwise.
    fn step<T>(&self, work: impl FnOnce(&mut Inside, bool) -> Result<T>) -> Result<T> {
        let mut inside = self.0.lock().unwrap();
        if inside.off {
            return Err(Error::other("no power"));
        }
        inside.steps += 1;
        let fault = inside.fault.filter(|(at, _)| *at == inside.steps).map(|(_, fault)| fault);
        match fault {
            None => work(&mut inside, false),
            Some(Fault::Refused) => Err(Error::other("refused")),
            Some(Fault::PowerOff) => {
                inside.off = true;
                Err(Error::other("no power"))
            }
            Some(Fault::DoneButFailed) => {
                work(&mut inside, true)?;
                Err(Error::other("failed afterwards"))
            }
        }
    }

    fn rename_names(&self, what: NameChange) -> Result<()> {
        self.step(|inside, _| {
            change(&mut inside.names, &what);
            inside.pending.push(what);
            Ok(())
        })
    }
}

impl Disk for MemoryDisk {
    fn check_folder(&self, _: &Path) -> std::result::Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, path: &Path, limit: u64) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.file(path);
        assert!(bytes.as_ref().is_none_or(|bytes| bytes.len() as u64 <= limit));
        Ok(bytes)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        if !self.0.lock().unwrap().names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        self.rename_names(NameChange::Gone(path.to_path_buf()))
    }

    fn create(&self, path: &Path, mode: u32) -> Result<Box<dyn Created>> {
        assert_eq!(mode, 0o600);
        let made = self.step(|inside, _| {
            if inside.names.contains_key(path) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let file = inside.files.len();
            inside.files.push(Contents::default());
            inside.names.insert(path.to_path_buf(), file);
            inside.pending.push(NameChange::Is(path.to_path_buf(), file));
            Ok(file)
        })?;
        Ok(Box::new(Open { disk: self.clone(), file: made }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.rename_names(NameChange::Moved(from.to_path_buf(), to.to_path_buf()))
    }

    fn sync_folder(&self, _: &Path) -> Result<()> {
        self.step(|inside, _| {
            inside.durable = inside.names.clone();
            inside.pending.clear();
            Ok(())
        })
    }
}

struct Open {
    disk: MemoryDisk,
    file: usize,
}

impl Created for Open {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.disk.step(|inside, half| {
            let bytes = if half { &bytes[..bytes.len() / 2] } else { bytes };
            inside.files[self.file].written.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.disk.step(|inside, _| {
            let file = &mut inside.files[self.file];
            file.synced = file.written.clone();
            Ok(())
        })
    }
}
