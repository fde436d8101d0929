use wasmplug_api::Digest;
use wasmplug_module::{ChecksumMatch, FetchError, FetchedModule, ModuleRequest};
use wasmplug_testkit::{Image, Registry, registry::Fault};

use crate::fixture::{Fixture, MODULE, SECOND, oci, request, start, told};

async fn checked(fixture: &Fixture, url: &str, sha256: &str) -> Result<FetchedModule, FetchError> {
    let sha256 = Some(sha256.parse().unwrap());
    fixture.store.get(&ModuleRequest { sha256, ..request(url) }).await
}

#[tokio::test]
async fn sha256_may_be_that_of_module_manifest_or_index() {
    let child = Image::compat(MODULE);
    let manifest = child.digest();
    let image = Image::index([("linux/amd64", child)]);
    let index = image.digest();
    let registry = start(Registry::builder().image("demo:v1", image)).await;
    let url = oci(&registry, "demo:v1");
    let module = Digest::sha256_of(MODULE).to_string();
    for (sha256, expected) in [
        (module, ChecksumMatch::Module),
        (manifest, ChecksumMatch::Manifest),
        (index, ChecksumMatch::Index),
    ] {
        let fixture = Fixture::new();
        // The second time it comes from the cache.
        for _ in 0..2 {
            let found = checked(&fixture, &url, &sha256).await.unwrap();
            assert_eq!(found.checksum, Some(expected));
        }
    }
}

#[tokio::test]
async fn another_sha256_is_refused_with_all_that_was_found() {
    let image = Image::compat(MODULE);
    let manifest = image.digest();
    let registry = start(Registry::builder().image("demo:v1", image)).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let wanted = Digest::sha256_of(b"other").to_string();
    let error = checked(&fixture, &url, &wanted).await.unwrap_err();
    let module = Digest::sha256_of(MODULE);
    let expected = format!(
        "digest mismatch for `{url}`: expected `{wanted}`, got `{module}` (module), \
         `{manifest}` (manifest)\nhint: if the new content is meant, set `sha256` to `{}`",
        manifest.strip_prefix("sha256:").unwrap()
    );
    assert_eq!(told(&error), expected);
    // It was not kept: without a checksum it is downloaded again.
    fixture.get(&url).await.unwrap();
    assert_eq!(registry.blob_downloads(), 2);
}

#[tokio::test]
async fn a_digest_in_the_url_is_checked_and_must_agree_with_sha256() {
    let image = Image::compat(MODULE);
    let digest = image.digest();
    let registry = start(Registry::builder().image("demo:v1", image)).await;
    // The tag before the digest does not matter, as everywhere.
    let url = oci(&registry, &format!("demo:gone@{digest}"));
    let fixture = Fixture::new();
    assert_eq!(fixture.get(&url).await.unwrap().bytes, MODULE);
    assert_eq!(checked(&fixture, &url, &digest).await.unwrap().bytes, MODULE);
    let module = Digest::sha256_of(MODULE).to_string();
    assert_eq!(checked(&fixture, &url, &module).await.unwrap().bytes, MODULE);
    let other = Digest::sha256_of(b"other").to_string();
    let refused = checked(&fixture, &url, &other).await.unwrap_err();
    assert!(matches!(refused, FetchError::DigestMismatch(_)), "{refused}");
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let image = Image::compat(MODULE);
    let digest = image.digest();
    let registry = start(Registry::builder().image("demo:v1", image)).await;
    registry.fault("/manifests/", Fault::Corrupt);
    for reference in ["demo:v1".to_owned(), format!("demo@{digest}")] {
        let error = Fixture::new().get(&oci(&registry, &reference)).await.unwrap_err();
        assert!(matches!(error, FetchError::Corrupt { what: "manifest", .. }), "{error}");
    }
    registry.clear_faults();
    Fixture::new().get(&oci(&registry, "demo:v1")).await.unwrap();
}

#[tokio::test]
async fn a_layer_is_verified_to_its_end_in_every_layout() {
    for image in [Image::docker(MODULE), Image::compat(MODULE), Image::artifact(MODULE)] {
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
        registry.fault("/blobs/", Fault::Corrupt);
        let error = fixture.get(&url).await.unwrap_err();
        assert!(matches!(error, FetchError::Corrupt { what: "layer", .. }), "{error}");
        registry.clear_faults();
        assert_eq!(fixture.get(&url).await.unwrap().bytes, MODULE);
    }
}

#[tokio::test]
async fn a_checksum_is_never_satisfied_by_what_was_fetched_from_another_url() {
    let first = Image::compat(MODULE);
    let sha256 = first.digest();
    let registry =
        Registry::builder().image("demo:v1", first).image("demo:v2", Image::compat(SECOND));
    let registry = start(registry).await;
    let fixture = Fixture::new();
    checked(&fixture, &oci(&registry, "demo:v1"), &sha256).await.unwrap();
    let refused = checked(&fixture, &oci(&registry, "demo:v2"), &sha256).await.unwrap_err();
    assert!(matches!(refused, FetchError::DigestMismatch(_)), "{refused}");
    // And the refusal did not make anyone believe that `v2` is `v1`.
    assert_eq!(fixture.get(&oci(&registry, "demo:v2")).await.unwrap().bytes, SECOND);
}

#[tokio::test]
async fn a_new_checksum_asks_again_whatever_the_policy() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    fixture.get(&url).await.unwrap();
    let moved = registry.push("demo:v1", Image::compat(SECOND));
    assert_eq!(fixture.get(&url).await.unwrap().bytes, MODULE);
    assert_eq!(checked(&fixture, &url, &moved).await.unwrap().bytes, SECOND);
}
