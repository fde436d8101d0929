//! Images that travel in a file to where no registry is.

use std::{path::Path, process::Command};

use bytes::Bytes;
use wasmplug_api::{Digest, ImageReference};
use wasmplug_module::{
    ArchiveError, ArchivedImage, FetchError, FetchSource, ImageLayout, ModuleRequest, PackedImage,
    Progress, SigningKey,
};
use wasmplug_testkit::{Image, Registry};

use crate::{
    fixture::{Fixture, MODULE, SECOND, oci, request, start},
    openssl::{KeyPair, Kind},
};

async fn save(fixture: &Fixture, references: &[ImageReference], path: &Path) -> Vec<ArchivedImage> {
    let images: Vec<_> = references.iter().map(|it| (it.clone(), None)).collect();
    let file = fs_err::File::create(path).unwrap();
    fixture.store.save(&images, file, &Progress::default()).await.unwrap()
}

fn reference(registry: &Registry, rest: &str) -> ImageReference {
    format!("{}/{rest}", registry.addr()).parse().unwrap()
}

#[tokio::test]
async fn what_was_saved_is_loaded_where_no_registry_is_signatures_included() {
    let (Some(key), Some(other)) = (KeyPair::new(Kind::P256), KeyPair::new(Kind::P256)) else {
        return;
    };
    let index = Image::index([
        ("linux/amd64", Image::compat(SECOND)),
        ("linux/arm64", Image::compat(MODULE)),
    ]);
    let registry = start(Registry::builder().image("other:v1", index).writable()).await;
    let fixture = Fixture::new();
    let signed = reference(&registry, "team/demo:v1");
    let image =
        PackedImage::of_module(&Bytes::from_static(MODULE), ImageLayout::Artifact, &[].into());
    fixture.store.push(&signed, &image, None, &Progress::default()).await.unwrap();
    let signing = fs_err::read_to_string(key.private()).unwrap();
    let signing = SigningKey::from_pem(&signing).unwrap();
    fixture.store.sign(&signed, &signing, None).await.unwrap();
    let path = fixture.directory.path().join("images.tar");
    let saved = save(&fixture, &[signed.clone(), reference(&registry, "other:v1")], &path).await;
    let urls = [oci(&registry, "team/demo:v1"), oci(&registry, "other:v1")];
    registry.stop();

    let elsewhere = Fixture::new();
    assert_eq!(elsewhere.store.load(&path).unwrap(), saved);
    assert_eq!(saved.iter().map(|it| it.signatures).collect::<Vec<_>>(), [1, 0]);
    for (url, module) in urls.iter().zip([MODULE, SECOND]) {
        let got = elsewhere.get(url).await.unwrap();
        assert_eq!((got.bytes.as_ref(), got.source), (module, FetchSource::Cache), "{url}");
    }
    let sha256 = Some(image.digest());
    elsewhere.store.get(&ModuleRequest { sha256, ..request(&urls[0]) }).await.unwrap();
    let pull = async |key: &KeyPair| {
        let verification_key = Some(key.public.clone());
        elsewhere.store.get(&ModuleRequest { verification_key, ..request(&urls[0]) }).await
    };
    assert_eq!(pull(&key).await.unwrap().signatures.len(), 1);
    // For another key the registry would have to be asked.
    let error = pull(&other).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn an_archive_that_was_altered_is_refused() {
    let registry = start(Registry::builder().image("demo:v1", Image::artifact(SECOND))).await;
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("images.tar");
    save(&fixture, &[reference(&registry, "demo:v1")], &path).await;
    let archive = fs_err::read(&path).unwrap();
    let at = archive.windows(SECOND.len()).position(|it| it == SECOND).unwrap();
    let mut altered = archive.clone();
    altered[at + SECOND.len() - 1] ^= 1;
    fs_err::write(&path, altered).unwrap();
    let error = Fixture::new().store.load(&path).unwrap_err();
    let blob = Digest::sha256_of(SECOND);
    assert!(matches!(&error, ArchiveError::Blob { digest } if *digest == blob), "{error}");
    fs_err::write(&path, &archive[..archive.len() / 2]).unwrap();
    Fixture::new().store.load(&path).unwrap_err();
    fs_err::write(&path, "not a tar archive").unwrap();
    Fixture::new().store.load(&path).unwrap_err();
    fs_err::write(&path, &archive).unwrap();
    Fixture::new().store.load(&path).unwrap();
}

#[tokio::test]
async fn an_image_without_a_module_is_not_loaded() {
    let registry = start(Registry::builder().image("demo:v1", Image::artifact(b"text"))).await;
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("images.tar");
    save(&fixture, &[reference(&registry, "demo:v1")], &path).await;
    let error = Fixture::new().store.load(&path).unwrap_err();
    assert!(matches!(error, ArchiveError::NotWasm { .. }), "{error}");
}

#[tokio::test]
async fn skopeo_reads_what_was_saved() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("SKIPPED: needs `skopeo`");
        return;
    }
    let image = Image::compat(MODULE);
    let digest = image.digest();
    let registry = start(Registry::builder().image("demo:v1", image)).await;
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("images.tar");
    save(&fixture, &[reference(&registry, "demo:v1")], &path).await;
    let name = format!("oci-archive:{}:{}/demo:v1", path.display(), registry.addr());
    let output = Command::new("skopeo").args(["inspect", &name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let inspected = String::from_utf8_lossy(&output.stdout);
    assert!(inspected.contains(&digest), "{inspected}");
}

#[tokio::test]
async fn an_image_is_described_with_its_index_and_signatures() {
    let Some(key) = KeyPair::new(Kind::Ed25519) else { return };
    let child = Image::compat(MODULE);
    let manifest = child.digest();
    let image = Image::index([("linux/amd64", child), ("attestation", Image::artifact(b"{}"))]);
    let index = image.digest();
    let registry = start(Registry::builder().image("demo:v1", image).writable()).await;
    let (fixture, reference) = (Fixture::new(), reference(&registry, "demo:v1"));
    let report = fixture.store.describe(&reference, None).await.unwrap();
    assert_eq!((report.index_digest, report.manifest_digest), (Some(index), manifest));
    assert_eq!(report.platforms, ["linux/amd64", "unknown/unknown"]);
    assert_eq!((report.layers.len(), report.signatures.len()), (1, 0));
    let key = SigningKey::from_pem(&fs_err::read_to_string(key.private()).unwrap()).unwrap();
    let pushed = fixture.store.sign(&reference, &key, None).await.unwrap();
    let report = fixture.store.describe(&reference, None).await.unwrap();
    assert_eq!(report.signatures, [pushed.place]);
    let gone = reference.registry.clone() + "/demo:v2";
    let error = fixture.store.describe(&gone.parse().unwrap(), None).await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
}
