//! Processes that share a directory, and processes that end in the middle of it.
//!
//! The other process is this test binary, told by the environment to be one.

use std::{
    env,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use wasmplug_api::Digest;
use wasmplug_module::{FetchSource, ModuleStore, StoreOptions};
use wasmplug_testkit::{Image, Registry, RegistryThread};

use crate::fixture::{MODULE, request};

const DIRECTORY: &str = "WASMPLUG_TEST_CRASH_DIRECTORY";
const URL: &str = "WASMPLUG_TEST_CRASH_URL";
const STEP: &str = "WASMPLUG_TEST_CRASH_STEP";

/// Steps of this process so far.
static STEPS: AtomicUsize = AtomicUsize::new(0);

/// Ends the process as `kill -9` does, at the step that was asked for.
fn die_at_step(_name: &'static str) {
    let step = STEPS.fetch_add(1, Ordering::SeqCst);
    if env::var(STEP).is_ok_and(|wanted| wanted == step.to_string()) {
        let id = std::process::id().to_string();
        Command::new("kill").args(["-9", &id]).status().unwrap();
        unreachable!("a process survives `kill -9`");
    }
}

fn options(directory: &Path) -> StoreOptions {
    let mut options = StoreOptions::new(directory);
    options.write_hook = Some(die_at_step);
    options.retry_delay = Duration::ZERO;
    // However busy the machine is, nobody gives up waiting for another process.
    options.fetch_timeout = Duration::from_mins(10);
    options
}

fn get(directory: &Path, url: &str) -> (Vec<u8>, FetchSource) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = ModuleStore::open(options(directory)).unwrap();
    let module = runtime.block_on(store.get(&request(url))).unwrap();
    (module.bytes.to_vec(), module.source)
}

/// The other process; alone, it sees that there are steps to end at.
#[test]
fn a_process_that_gets_a_module() {
    if let (Some(directory), Ok(url)) = (env::var_os(DIRECTORY), env::var(URL)) {
        assert_eq!(get(Path::new(&directory), &url).0, MODULE);
        return;
    }
    let (registry, url) = registry();
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(get(directory.path(), &url), (MODULE.to_vec(), FetchSource::Network));
    assert!(STEPS.load(Ordering::SeqCst) > 10, "a module and an index, of six steps each");
    assert_eq!(registry.blob_downloads(), 1);
}

fn registry() -> (RegistryThread, String) {
    let registry = Registry::builder().image("demo:v1", Image::compat(MODULE));
    let registry = RegistryThread::start(registry).unwrap();
    let url = format!("oci://{}/demo:v1", registry.addr());
    (registry, url)
}

fn spawn(directory: &Path, url: &str, step: Option<usize>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "crash::a_process_that_gets_a_module"]).env_remove(STEP);
    command.env(DIRECTORY, directory).env(URL, url).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(step) = step {
        command.env(STEP, step.to_string());
    }
    command.spawn().unwrap()
}

fn wait(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn a_process_killed_at_any_step_leaves_a_cache_that_works() {
    let (registry, url) = registry();
    let mut step = 0;
    loop {
        let directory = tempfile::tempdir().unwrap();
        let output = wait(spawn(directory.path(), &url, Some(step)));
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), None, "step {step} was killed");
        // Whatever is under the digest of the module is the module.
        let blob = directory.path().join("blobs/sha256").join(Digest::sha256_of(MODULE).hex());
        assert!(fs_err::read(&blob).is_ok_and(|it| it == MODULE) || !blob.exists(), "step {step}");
        let next = wait(spawn(directory.path(), &url, None));
        assert!(next.status.success(), "step {step}: {}", String::from_utf8_lossy(&next.stdout));
        let asked = registry.log().len();
        let third = wait(spawn(directory.path(), &url, None));
        assert!(third.status.success(), "step {step}");
        assert_eq!(registry.log().len(), asked, "step {step}: the second start filled the cache");
        step += 1;
    }
    assert!(step > 10, "only {step} steps were killed");
}

#[test]
fn fifty_processes_download_a_module_once() {
    let (registry, url) = registry();
    let directory = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..50).map(|_| spawn(directory.path(), &url, None)).collect();
    for output in children.into_iter().map(wait) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(registry.blob_downloads(), 1);
    assert_eq!(get(directory.path(), &url), (MODULE.to_vec(), FetchSource::Cache));
}
