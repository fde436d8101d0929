//! Disks that are full or read-only, on a file system of the test's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use wasmplug_module::{FetchSource, ModuleStore, StoreError, StoreOptions};
use wasmplug_testkit::{Image, Registry};

use crate::fixture::{MODULE, oci, request, start};

/// A small file system in memory; unmounted at the end.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// `None`, and a line on stdout, if this user may not mount.
    #[expect(clippy::print_stdout, reason = "whoever counts skipped tests reads stdout")]
    fn mount(kib: u32) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let options = format!("size={kib}k");
        if mount(&["-t", "tmpfs", "-o", &options, "none"], directory.path()) {
            return Some(Self { directory });
        }
        println!("SKIPPED: needs the right to mount a file system");
        None
    }

    /// A process that another test is just starting may hold what was open for writing, for a
    /// moment, and the system then refuses.
    fn remount(&self, options: &str) {
        let is_done = (0..1000).any(|_| mount(&["-o", options], self.directory.path()));
        assert!(is_done, "cannot remount");
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("modules")
    }

    fn open(&self) -> Result<ModuleStore, StoreError> {
        ModuleStore::open(StoreOptions::new(self.path()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.directory.path()).status().ok();
    }
}

fn mount(arguments: &[&str], directory: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(directory).output();
    output.is_ok_and(|output| output.status.success())
}

/// A module that does not compress, of about this size.
fn large_module(kib: usize) -> Vec<u8> {
    let mut seed = 1_u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(seed >> 24).unwrap()
    });
    MODULE.iter().copied().chain(noise.take(kib * 1024)).collect()
}

#[tokio::test]
async fn a_module_runs_although_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let large = large_module(200);
    let registry = Registry::builder()
        .image("large:v1", Image::compat(&large))
        .image("small:v1", Image::compat(MODULE));
    let registry = start(registry).await;
    let store = disk.open().unwrap();
    for _ in 0..2 {
        let module = store.get(&request(&oci(&registry, "large:v1"))).await.unwrap();
        assert_eq!((module.bytes.as_ref(), module.source), (&large[..], FetchSource::Network));
    }
    // No half of it stays behind, so there is room for what fits.
    let files = fs_err::read_dir(disk.path().join("blobs/sha256")).unwrap();
    assert_eq!(files.count(), 0);
    let small = request(&oci(&registry, "small:v1"));
    assert_eq!(store.get(&small).await.unwrap().source, FetchSource::Network);
    assert_eq!(disk.open().unwrap().get(&small).await.unwrap().source, FetchSource::Cache);
}

#[tokio::test]
async fn a_read_only_disk_serves_what_it_has_and_keeps_nothing_new() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let registry = Registry::builder()
        .image("old:v1", Image::compat(MODULE))
        .image("new:v1", Image::compat(&large_module(1)));
    let registry = start(registry).await;
    let (old, new) = (request(&oci(&registry, "old:v1")), request(&oci(&registry, "new:v1")));
    disk.open().unwrap().get(&old).await.unwrap();
    disk.remount("remount,ro");
    let store = disk.open().unwrap();
    assert_eq!(store.get(&old).await.unwrap().source, FetchSource::Cache);
    assert_eq!(store.get(&new).await.unwrap().source, FetchSource::Network);
    assert_eq!(disk.open().unwrap().get(&new).await.unwrap().source, FetchSource::Network);
    disk.remount("remount,rw");
    store.get(&new).await.unwrap();
    assert_eq!(disk.open().unwrap().get(&new).await.unwrap().source, FetchSource::Cache);
}

#[tokio::test]
async fn a_disk_that_is_read_only_from_the_beginning_is_no_reason_not_to_start() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    disk.remount("remount,ro");
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let store = disk.open().unwrap();
    let module = store.get(&request(&oci(&registry, "demo:v1"))).await.unwrap();
    assert_eq!((module.bytes.as_ref(), module.source), (MODULE, FetchSource::Network));
    assert!(store.list().unwrap().is_empty());
}
