//! Images that are pushed, read back by this store and by others, and signed where they lie.

use std::collections::BTreeMap;

use bytes::Bytes;
use wasmplug_api::ImageReference;
use wasmplug_module::{
    FetchError, ImageLayout, ModuleRequest, PackedImage, Progress, RegistryCredentials, SigningKey,
};
use wasmplug_testkit::{Registry, registry::Fault};

use crate::{
    fixture::{Fixture, MODULE, SECOND, oci, request, start},
    openssl::{KINDS, KeyPair},
};

const LAYOUTS: [ImageLayout; 2] = [ImageLayout::Compat, ImageLayout::Artifact];

fn reference(registry: &Registry, rest: &str) -> ImageReference {
    format!("{}/{rest}", registry.addr()).parse().unwrap()
}

fn packed(module: &'static [u8], layout: ImageLayout) -> PackedImage {
    PackedImage::of_module(&Bytes::from_static(module), layout, &BTreeMap::new())
}

fn account(registry: &Registry, password: &str) -> RegistryCredentials {
    let config = format!(
        r#"{{"auths":{{"{}":{{"username":"user","password":"{password}"}}}}}}"#,
        registry.addr()
    );
    RegistryCredentials::from_docker_config(config.as_bytes()).unwrap()
}

#[tokio::test]
async fn what_is_pushed_is_pulled_under_the_digest_that_was_told() {
    for layout in LAYOUTS {
        let registry = start(Registry::builder().writable()).await;
        let (fixture, image) = (Fixture::new(), packed(MODULE, layout));
        let to = reference(&registry, "team/demo:v1");
        let progress = Progress::default();
        let digest = fixture.store.push(&to, &image, None, &progress).await.unwrap();
        assert_eq!(registry.tag("team/demo:v1"), Some(digest.to_string()));
        let module = fixture.get(&oci(&registry, "team/demo:v1")).await.unwrap();
        assert_eq!((module.bytes.as_ref(), module.manifest_digest), (MODULE, Some(digest)));
        assert!(progress.done() > 0 && progress.done() == progress.expected());
        // Again, nothing but the manifest is sent.
        let before = registry.log().len();
        fixture.store.push(&to, &image, None, &Progress::default()).await.unwrap();
        let log = registry.log();
        let sent: Vec<_> = log[before..].iter().filter(|it| !it.starts_with("HEAD")).collect();
        assert_eq!(sent, ["PUT /v2/team/demo/manifests/v1"]);
    }
}

#[tokio::test]
async fn pushing_takes_the_right_password_with_basic_and_bearer_authentication() {
    for builder in [
        Registry::builder().writable().basic_auth("user", "pass"),
        Registry::builder().writable().bearer_auth("user", "pass"),
    ] {
        let registry = start(builder).await;
        let (fixture, image) = (Fixture::new(), packed(MODULE, ImageLayout::Compat));
        let to = reference(&registry, "demo:v1");
        let push = async |credentials: Option<RegistryCredentials>| {
            fixture.store.push(&to, &image, credentials.as_ref(), &Progress::default()).await
        };
        for credentials in [None, Some(account(&registry, "wrong"))] {
            let error = push(credentials).await.unwrap_err();
            assert!(matches!(error, FetchError::Unauthorized { .. }), "{error}");
        }
        push(Some(account(&registry, "pass"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_push_that_fails_leaves_the_tag_where_it_was() {
    let registry = start(Registry::builder().writable()).await;
    let fixture = Fixture::new();
    let to = reference(&registry, "demo:v1");
    let first = packed(MODULE, ImageLayout::Compat);
    fixture.store.push(&to, &first, None, &Progress::default()).await.unwrap();
    let second = packed(SECOND, ImageLayout::Compat);
    for path in ["/blobs/uploads/", "/manifests/"] {
        registry.fault(path, Fault::Status(500));
        let pushed = fixture.store.push(&to, &second, None, &Progress::default()).await;
        assert!(matches!(pushed, Err(FetchError::Status { status: 500, .. })), "{pushed:?}");
        registry.clear_faults();
        assert_eq!(registry.tag("demo:v1"), Some(first.digest().to_string()));
    }
    let read_only = start(Registry::builder()).await;
    let to = reference(&read_only, "demo:v1");
    let pushed = fixture.store.push(&to, &second, None, &Progress::default()).await;
    assert!(matches!(pushed, Err(FetchError::Status { status: 405, .. })), "{pushed:?}");
}

#[tokio::test]
async fn an_image_that_was_signed_here_counts_for_its_keys_and_for_no_other() {
    for kind in KINDS {
        let (Some(key), Some(other)) = (KeyPair::new(kind), KeyPair::new(kind)) else { return };
        let registry = start(Registry::builder().writable()).await;
        let fixture = Fixture::new();
        let to = reference(&registry, "demo:v1");
        let image = packed(MODULE, ImageLayout::Artifact);
        fixture.store.push(&to, &image, None, &Progress::default()).await.unwrap();
        let signing = SigningKey::from_pem(&fs_err::read_to_string(key.private()).unwrap());
        let signing = signing.unwrap();
        // What OpenSSL says is the public key.
        assert_eq!(signing.public_pem(), key.public.as_str(), "{kind:?}");
        let pushed = fixture.store.sign(&to, &signing, None).await.unwrap();
        assert_eq!(pushed.image, image.digest());
        let pull = async |key: &KeyPair| {
            let verification_key = Some(key.public.clone());
            let url = oci(&registry, "demo:v1");
            let request = ModuleRequest { verification_key, ..request(&url) };
            Fixture::new().store.get(&request).await
        };
        assert_eq!(pull(&key).await.unwrap().signatures[0].place, pushed.place, "{kind:?}");
        assert!(matches!(pull(&other).await, Err(FetchError::Signature { .. })), "{kind:?}");
        // A second signature stands beside the first.
        let second = SigningKey::from_pem(&fs_err::read_to_string(other.private()).unwrap());
        fixture.store.sign(&to, &second.unwrap(), None).await.unwrap();
        pull(&key).await.unwrap();
        pull(&other).await.unwrap();
    }
}

#[test]
fn openssl_verifies_what_was_signed_here() {
    for kind in KINDS {
        let (Some(key), Some(other)) = (KeyPair::new(kind), KeyPair::new(kind)) else { return };
        let signing = SigningKey::from_pem(&fs_err::read_to_string(key.private()).unwrap());
        let signature = signing.unwrap().sign(MODULE).unwrap();
        assert!(key.verifies(MODULE, &signature), "{kind:?}");
        assert!(!key.verifies(SECOND, &signature), "{kind:?}");
        assert!(!other.verifies(MODULE, &signature), "{kind:?}");
    }
}

#[test]
fn what_is_no_usable_private_key_is_named() {
    let Some(key) = KeyPair::new(crate::openssl::Kind::P256) else { return };
    let label = |label: &str| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
    let rows = [
        (String::new(), "there is no `PRIVATE KEY` in PEM in it"),
        (key.public.clone(), "there is no `PRIVATE KEY` in PEM in it"),
        (label("ENCRYPTED SIGSTORE PRIVATE KEY"), "the private key is encrypted"),
        (label("ENCRYPTED PRIVATE KEY"), "the private key is encrypted"),
        (label("EC PRIVATE KEY"), "the private key is in the older format `EC PRIVATE KEY`"),
        (label("PRIVATE KEY"), "the private key is of a kind that is not supported, or malformed"),
        (
            label("RSA PRIVATE KEY"),
            "the private key is of a kind that is not supported, or malformed",
        ),
    ];
    for (text, expected) in rows {
        let error = SigningKey::from_pem(&text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
        assert!(error.hint().is_some());
    }
}
