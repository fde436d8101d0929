use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::task::JoinSet;
use wasmplug_api::Digest;
use wasmplug_module::{FetchError, FetchSource, ModuleStore, Pruned, StoreError, StoreOptions};
use wasmplug_testkit::{Image, Registry, registry::Fault};

use crate::fixture::{Fixture, MODULE, SECOND, oci, request, start};

fn blobs(fixture: &Fixture) -> PathBuf {
    fixture.directory.path().join("modules/blobs/sha256")
}

#[tokio::test]
async fn a_restart_needs_no_registry() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let url = oci(&registry, "demo:v1");
    let mut fixture = Fixture::new();
    let first = fixture.get(&url).await.unwrap();
    registry.stop();
    fixture.restart();
    let again = fixture.get(&url).await.unwrap();
    assert_eq!((again.bytes, again.source), (first.bytes, FetchSource::Cache));
    assert_eq!(again.manifest_digest, first.manifest_digest);
    let other = fixture.get(&url.replace(":v1", ":v2")).await.unwrap_err();
    assert!(matches!(other, FetchError::Connect { refused: true, .. }), "{other}");
}

#[tokio::test]
async fn a_corrupt_file_is_fetched_anew() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    fixture.get(&url).await.unwrap();
    let file = blobs(&fixture).join(Digest::sha256_of(MODULE).hex());
    for damage in [SECOND, b""] {
        fs_err::write(&file, damage).unwrap();
        let again = fixture.get(&url).await.unwrap();
        assert_eq!((again.bytes.as_ref(), again.source), (MODULE, FetchSource::Network));
        assert_eq!(fs_err::read(&file).unwrap(), MODULE);
    }
    fs_err::remove_file(&file).unwrap();
    assert_eq!(fixture.get(&url).await.unwrap().bytes, MODULE);
    assert_eq!(registry.blob_downloads(), 4);
}

#[tokio::test]
async fn a_corrupt_file_is_never_served_when_the_registry_is_gone() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    fixture.get(&url).await.unwrap();
    registry.stop();
    fs_err::write(blobs(&fixture).join(Digest::sha256_of(MODULE).hex()), SECOND).unwrap();
    let error = fixture.get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_index_costs_a_download_and_nothing_else() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let url = oci(&registry, "demo:v1");
    let mut fixture = Fixture::new();
    fixture.get(&url).await.unwrap();
    fs_err::write(fixture.directory.path().join("modules/index.json"), "{\"format\":").unwrap();
    fixture.restart();
    assert_eq!(fixture.get(&url).await.unwrap().source, FetchSource::Network);
    assert_eq!(fixture.get(&url).await.unwrap().source, FetchSource::Cache);
}

#[tokio::test]
async fn concurrent_requests_ask_once() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let (store, request) = (fixture.store.clone(), request(&url));
        requests.spawn(async move { store.get(&request).await });
    }
    for result in requests.join_all().await {
        assert_eq!(result.unwrap().bytes, MODULE);
    }
    assert_eq!(registry.log().len(), 2, "{:?}", registry.log());
}

#[tokio::test]
async fn a_dropped_request_does_not_take_others_with_it() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    registry.fault_times("/manifests/", Fault::Hang, 1);
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let request = request(&url);
    let mut first = Box::pin(fixture.store.get(&request));
    // Drives the first one until the registry has its request, which it never answers.
    while registry.log().is_empty() {
        tokio::select! {
            biased;
            _ = &mut first => panic!("answered"),
            () = tokio::task::yield_now() => {}
        }
    }
    let second = fixture.store.get(&request);
    drop(first);
    assert_eq!(second.await.unwrap().bytes, MODULE);
}

#[tokio::test]
async fn a_failure_leaves_no_files() {
    let registry = start(Registry::builder().image("demo:v1", Image::artifact(b"not wasm"))).await;
    let fixture = Fixture::new();
    fixture.get(&oci(&registry, "demo:v1")).await.unwrap_err();
    assert_eq!(fs_err::read_dir(blobs(&fixture)).unwrap().count(), 0);
    registry.push("demo:v1", Image::artifact(MODULE));
    fixture.get(&oci(&registry, "demo:v1")).await.unwrap();
    assert_eq!(fs_err::read_dir(blobs(&fixture)).unwrap().count(), 1);
}

#[tokio::test]
async fn pruning_keeps_what_is_in_use_and_the_rest_can_come_back() {
    let registry = Registry::builder()
        .image("demo:v1", Image::compat(MODULE))
        .image("demo:v2", Image::compat(SECOND));
    let registry = start(registry).await;
    let fixture = Fixture::new();
    let (used, unused) = (oci(&registry, "demo:v1"), oci(&registry, "demo:v2"));
    let in_use = HashSet::from([fixture.get(&used).await.unwrap().digest]);
    fixture.get(&unused).await.unwrap();
    let tomorrow = SystemTime::now() + Duration::from_hours(24);
    let pruned = fixture.store.prune(tomorrow, &in_use).unwrap();
    assert_eq!(pruned, Pruned { files: 1, bytes: SECOND.len() as u64 });
    assert_eq!(fixture.get(&used).await.unwrap().source, FetchSource::Cache);
    assert_eq!(fixture.get(&unused).await.unwrap().source, FetchSource::Network);
    let nothing = fixture.store.prune(SystemTime::UNIX_EPOCH, &HashSet::new()).unwrap();
    assert_eq!(nothing, Pruned::default());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs_err::write(&file, "").unwrap();
    let error = ModuleStore::open(StoreOptions::new(file.join("modules"))).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    ModuleStore::open(StoreOptions::new(directory.path().join("a/b"))).unwrap();
}
