use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::task::JoinSet;
use wasmplug_api::Digest;
use wasmplug_module::{
    FetchError, FetchSource, ModuleStore, Pruned, Removed, StoreError, StoreOptions,
};
use wasmplug_testkit::{Image, Registry, registry::Fault};

use crate::fixture::{Fixture, MODULE, SECOND, THIRD, is_unreachable, oci, request, start};

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
    assert!(is_unreachable(&error), "{error}");
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
async fn eviction_keeps_what_is_loaded_and_the_rest_can_come_back() {
    let registry = Registry::builder()
        .image("demo:v1", Image::compat(MODULE))
        .image("demo:v2", Image::compat(SECOND));
    let registry = start(registry).await;
    let fixture = Fixture::new();
    let (used, unused) = (oci(&registry, "demo:v1"), oci(&registry, "demo:v2"));
    let loaded = fixture.get(&used).await.unwrap();
    drop(fixture.get(&unused).await.unwrap());
    // Another store on the same directory, as another process would have it.
    let other = fixture.another();
    assert_eq!(other.remove(&loaded.digest).unwrap(), Removed::InUse);
    let listed = other.list().unwrap();
    let in_use: Vec<_> = listed.iter().filter(|it| it.in_use).map(|it| it.urls.clone()).collect();
    assert_eq!((listed.len(), in_use), (2, vec![vec![used.clone()]]));
    let tomorrow = SystemTime::now() + Duration::from_hours(24);
    let pruned = other.evict(tomorrow, u64::MAX).unwrap();
    assert_eq!(pruned, Pruned { files: 1, bytes: SECOND.len() as u64 });
    assert_eq!(fixture.get(&used).await.unwrap().source, FetchSource::Cache);
    assert_eq!(fixture.get(&unused).await.unwrap().source, FetchSource::Network);
    drop(loaded);
    let nothing = other.evict(SystemTime::UNIX_EPOCH, u64::MAX).unwrap();
    assert_eq!(nothing, Pruned::default());
    assert_eq!(other.remove(&Digest::sha256_of(MODULE)).unwrap(), Removed::Done);
    assert_eq!(other.remove(&Digest::sha256_of(MODULE)).unwrap(), Removed::Absent);
    assert_eq!(fixture.get(&used).await.unwrap().source, FetchSource::Network);
}

#[tokio::test]
async fn a_cache_that_is_full_makes_room_for_what_comes() {
    let registry = Registry::builder()
        .image("demo:v1", Image::compat(MODULE))
        .image("demo:v2", Image::compat(SECOND))
        .image("demo:v3", Image::compat(THIRD));
    let registry = start(registry).await;
    // There is room for two of the three, of 8, 12 and 12 bytes.
    let fixture = Fixture::with(|options| options.max_cache_bytes = 24);
    for tag in ["demo:v1", "demo:v2", "demo:v3"] {
        drop(fixture.get(&oci(&registry, tag)).await.unwrap());
    }
    let left: Vec<Digest> = fixture.store.list().unwrap().into_iter().map(|it| it.digest).collect();
    assert_eq!(left, [SECOND, THIRD].map(Digest::sha256_of));
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
