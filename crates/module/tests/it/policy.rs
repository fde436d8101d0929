use wasmplug_api::{NamespacedName, PullPolicy};
use wasmplug_module::{FetchError, FetchSource, FetchedModule, ModuleRequest, StoreCounters};
use wasmplug_testkit::{Image, Registry, registry::Fault};

use crate::fixture::{Fixture, MODULE, SECOND, oci, request, start};

async fn pull(
    fixture: &Fixture,
    url: &str,
    pull_policy: PullPolicy,
    version: &str,
) -> Result<FetchedModule, FetchError> {
    let resource_version = version.to_owned();
    let request = ModuleRequest { pull_policy, resource_version, ..request(url) };
    fixture.store.get(&request).await
}

#[tokio::test]
async fn if_not_present_asks_once_even_after_the_tag_moved() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let policy = PullPolicy::IfNotPresent;
    assert_eq!(pull(&fixture, &url, policy, "1").await.unwrap().source, FetchSource::Network);
    registry.push("demo:v1", Image::compat(SECOND));
    let again = pull(&fixture, &url, policy, "2").await.unwrap();
    assert_eq!((again.bytes.as_ref(), again.source), (MODULE, FetchSource::Cache));
    assert_eq!(registry.log().len(), 2);
}

#[tokio::test]
async fn always_asks_when_the_resource_changed_and_only_then() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let policy = PullPolicy::Always;
    pull(&fixture, &url, policy, "1").await.unwrap();
    registry.push("demo:v1", Image::compat(SECOND));
    assert_eq!(pull(&fixture, &url, policy, "1").await.unwrap().bytes, MODULE);
    assert_eq!(pull(&fixture, &url, policy, "2").await.unwrap().bytes, SECOND);
    assert_eq!(pull(&fixture, &url, policy, "2").await.unwrap().source, FetchSource::Cache);
}

#[tokio::test]
async fn an_unknown_version_counts_as_a_change() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    pull(&fixture, &url, PullPolicy::Always, "").await.unwrap();
    registry.push("demo:v1", Image::compat(SECOND));
    assert_eq!(pull(&fixture, &url, PullPolicy::Always, "").await.unwrap().bytes, SECOND);
}

#[tokio::test]
async fn always_does_not_download_again_what_is_there() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    pull(&fixture, &url, PullPolicy::Always, "1").await.unwrap();
    assert_eq!(
        pull(&fixture, &url, PullPolicy::Always, "2").await.unwrap().source,
        FetchSource::Cache
    );
    registry.push("demo:v1", Image::compat(SECOND));
    pull(&fixture, &url, PullPolicy::Always, "3").await.unwrap();
    // The tag moves back to something that was fetched before.
    registry.push("demo:v1", Image::compat(MODULE));
    assert_eq!(pull(&fixture, &url, PullPolicy::Always, "4").await.unwrap().bytes, MODULE);
    assert_eq!(registry.blob_downloads(), 2);
}

#[tokio::test]
async fn an_unspecified_policy_is_always_for_latest_and_if_not_present_for_others() {
    for (tag, moves) in [(":latest", true), ("", true), (":v1", false)] {
        let reference = format!("demo{tag}");
        let registry = start(Registry::builder().image(&reference, Image::compat(MODULE))).await;
        let (fixture, url) = (Fixture::new(), oci(&registry, &reference));
        pull(&fixture, &url, PullPolicy::Unspecified, "1").await.unwrap();
        registry.push(&reference, Image::compat(SECOND));
        let again = pull(&fixture, &url, PullPolicy::Unspecified, "2").await.unwrap();
        assert_eq!(again.bytes, if moves { SECOND } else { MODULE }, "{reference}");
    }
}

#[tokio::test]
async fn a_failed_pull_is_not_taken_for_a_success_later() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    pull(&fixture, &url, PullPolicy::Always, "1").await.unwrap();
    registry.push("demo:v1", Image::compat(SECOND));
    registry.fault("/manifests/", Fault::Status(503));
    for _ in 0..2 {
        let error = pull(&fixture, &url, PullPolicy::Always, "2").await.unwrap_err();
        assert!(matches!(error, FetchError::Status { status: 503, .. }), "{error}");
    }
    registry.clear_faults();
    assert_eq!(pull(&fixture, &url, PullPolicy::Always, "2").await.unwrap().bytes, SECOND);
}

#[tokio::test]
async fn versions_are_remembered_for_each_resource() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let named = |name: &str| ModuleRequest {
        resource: NamespacedName { namespace: "default".into(), name: name.into() },
        pull_policy: PullPolicy::Always,
        ..request(&url)
    };
    fixture.store.get(&named("one")).await.unwrap();
    fixture.store.get(&named("other")).await.unwrap();
    let asked = registry.log().len();
    fixture.store.get(&named("one")).await.unwrap();
    fixture.store.get(&named("other")).await.unwrap();
    assert_eq!(registry.log().len(), asked);
    // Both asked for the manifest, and only one for the layer.
    assert_eq!((asked, registry.blob_downloads()), (3, 1));
}

#[tokio::test]
async fn a_refresh_brings_a_moved_tag_only_under_always_and_tells_it_once() {
    for (pull_policy, brings) in [(PullPolicy::Always, true), (PullPolicy::IfNotPresent, false)] {
        let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
        let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
        let refresh = || ModuleRequest { refresh: true, pull_policy, ..request(&url) };
        fixture.store.get(&refresh()).await.unwrap();
        fixture.store.get(&refresh()).await.unwrap();
        assert_eq!(fixture.store.counters().moved_tags, 0);
        registry.push("demo:v1", Image::compat(SECOND));
        // The resource has not changed, so without a refresh nobody looks.
        pull(&fixture, &url, pull_policy, "1").await.unwrap();
        assert_eq!(fixture.store.counters().moved_tags, 0);
        for _ in 0..2 {
            let module = fixture.store.get(&refresh()).await.unwrap();
            assert_eq!(module.bytes, if brings { SECOND } else { MODULE }, "{pull_policy:?}");
            assert_eq!(fixture.store.counters().moved_tags, 1, "{pull_policy:?}");
        }
        // A registry that is down fails what must be asked and nothing else.
        registry.stop();
        assert_eq!(fixture.store.get(&refresh()).await.is_err(), brings, "{pull_policy:?}");
    }
}

#[tokio::test]
async fn lookups_and_fetches_are_counted() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    for _ in 0..2 {
        fixture.get(&url).await.unwrap();
    }
    fixture.get(&oci(&registry, "demo:v2")).await.unwrap_err();
    let sha256 = Some(wasmplug_api::Digest::sha256_of(b"other"));
    fixture.store.get(&ModuleRequest { sha256, ..request(&url) }).await.unwrap_err();
    let counted = fixture.store.counters();
    let expected = StoreCounters {
        hits: 1,
        misses: 3,
        fetched: 1,
        failed_downloads: 1,
        wrong_modules: 1,
        ..StoreCounters::default()
    };
    assert_eq!(counted, expected);
}
