//! The test's end of the barriers: one file per process, which counts in it and dies where it says.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use subdaemon::barrier::{COUNT_AT, DEATH_AT, ORPHANS, PID_AT, PLACE_AT, STOP};

/// What SQLite keeps.
const FILES: [&str; 2] = ["lightningd.sqlite3", "lightningd.sqlite3-wal"];

/// The barriers of one node.
#[derive(Debug, Clone)]
pub struct Barriers(PathBuf);

/// How many barriers each process has passed since its node was new, by the process's name in the
/// log.
pub type Counts = BTreeMap<String, u64>;

impl Barriers {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self(folder.to_path_buf())
    }
    /// The option that a node needs.
    pub fn option(&self) -> String {
        format!("--dev-barriers={}", self.0.display())
    }
    /// How far each process is.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for entry in std::fs::read_dir(&self.0).unwrap().flatten() {
            if entry.path().is_file() && entry.file_name() != ORPHANS {
                let name = entry.file_name().to_string_lossy().into_owned();
                counts.insert(name, self.number(&entry.path()));
            }
        }
        counts
    }
    fn number(&self, path: &Path) -> u64 {
        let mut bytes = [0; 8];
        match File::open(path).and_then(|f| f.read_exact_at(&mut bytes, COUNT_AT)) {
            Ok(()) => u64::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }
    /// How far this one is.
    pub fn count(&self, process: &str) -> u64 {
        self.number(&self.0.join(process))
    }
    /// It dies at this barrier; at none for zero.
    pub fn arm(&self, process: &str, at: u64) {
        let mut options = OpenOptions::new();
        let file =
            options.write(true).create(true).truncate(false).open(self.0.join(process)).unwrap();
        file.set_len(PLACE_AT).unwrap();
        file.write_all_at(&at.to_ne_bytes(), DEATH_AT).unwrap();
    }
    /// It stops at this barrier, until somebody lets it go on.
    pub fn arm_to_stop(&self, process: &str, at: u64) {
        self.arm(process, at | STOP);
    }
    /// Nothing more happens to it.
    pub fn disarm(&self, process: &str) {
        let path = self.0.join(process);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&0u64.to_ne_bytes(), DEATH_AT).unwrap();
    }
    /// Which process stopped there, if one did.
    pub fn stopped(&self, process: &str) -> Option<i32> {
        self.place(process)?;
        let mut bytes = [0; 8];
        File::open(self.0.join(process)).ok()?.read_exact_at(&mut bytes, PID_AT).ok()?;
        i32::try_from(i64::from_ne_bytes(bytes)).ok()
    }
    /// Where it died, if it did.
    pub fn place(&self, process: &str) -> Option<String> {
        let bytes = std::fs::read(self.0.join(process)).ok()?;
        let place = bytes.get(usize::try_from(PLACE_AT).ok()?..)?;
        (!place.is_empty()).then(|| String::from_utf8_lossy(place).into_owned())
    }
    /// Daemons that are born from now on outlive their master.
    pub fn let_orphans_live(&self) {
        File::create(self.0.join(ORPHANS)).unwrap();
    }
    /// From now on each commit is followed by a copy of the database, which is in this folder. The
    /// first is of what is there now.
    pub fn begin_copies(&self, folder: &Path) {
        let _ = std::fs::remove_dir_all(self.taken());
        let first = self.taken().join("00000");
        std::fs::create_dir_all(&first).unwrap();
        for name in FILES {
            std::fs::copy(folder.join(name), first.join(name)).unwrap();
        }
        std::fs::rename(self.taken(), self.copies()).unwrap();
    }
    /// No more of them. How many there are.
    pub fn end_copies(&self) -> u64 {
        if self.copies().is_dir() {
            std::fs::rename(self.copies(), self.taken()).unwrap();
        }
        std::fs::read_dir(self.taken()).map_or(0, |d| d.count() as u64)
    }
    fn copies(&self) -> PathBuf {
        self.0.join("copies")
    }
    fn taken(&self) -> PathBuf {
        self.0.join("taken")
    }
    /// The n-th copy, from 1, takes the place of what is in this folder.
    pub fn put_back(&self, number: u64, folder: &Path) {
        let from = self.taken().join(format!("{:05}", number - 1));
        let _ = std::fs::remove_file(folder.join("lightningd.sqlite3-shm"));
        for name in FILES {
            std::fs::copy(from.join(name), folder.join(name)).unwrap();
        }
    }
}
