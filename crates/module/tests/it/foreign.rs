//! Images copied by skopeo into the CNCF registry: tools and servers that are not ours.

use std::{collections::BTreeMap, process::Command};

use bytes::Bytes;
use wasmplug_api::ImageReference;
use wasmplug_module::{FetchError, ImageLayout, ModuleRequest, PackedImage, Progress, SigningKey};
use wasmplug_testkit::{
    Image,
    registry::{Layer, media_type, tar},
};

use crate::{
    docker_registry::{ForeignRegistry, Protection, find},
    fixture::{Fixture, MODULE, request},
};

#[tokio::test]
async fn images_copied_by_skopeo_are_read() {
    let Some(registry) = ForeignRegistry::start(Protection::None) else { return };
    let plain =
        || Image::oci([Layer::new(media_type::OCI_LAYER_TAR, tar(&[("plugin.wasm", MODULE)]))]);
    let rows: [(&str, Image, &[&str]); 5] = [
        ("compat", Image::compat(MODULE), &[]),
        ("docker", Image::compat(MODULE), &["--format", "v2s2"]),
        ("compressed", plain(), &["--dest-compress-format", "gzip"]),
        ("zstd", plain(), &["--dest-compress-format", "zstd"]),
        ("artifact", Image::artifact(MODULE), &["--preserve-digests"]),
    ];
    for (tag, image, arguments) in rows {
        registry.copy(&image, tag, arguments);
        let module = Fixture::new().get(&registry.url(tag)).await.unwrap();
        assert_eq!(module.bytes, MODULE, "{tag}");
        if arguments.is_empty() {
            assert_eq!(module.manifest_digest.unwrap().to_string(), image.digest(), "{tag}");
        }
    }
}

#[tokio::test]
async fn what_is_not_in_a_foreign_registry_is_told_with_its_tags() {
    let Some(registry) = ForeignRegistry::start(Protection::None) else { return };
    registry.copy(&Image::compat(MODULE), "v1", &[]);
    let error = Fixture::new().get(&registry.url("v2")).await.unwrap_err();
    assert!(matches!(&error, FetchError::NotFound { tags, .. } if tags == &["v1"]), "{error:?}");
}

#[tokio::test]
async fn a_foreign_registry_with_passwords_admits_the_right_one() {
    let Some(registry) = ForeignRegistry::start(Protection::Password) else { return };
    registry.copy(&Image::compat(MODULE), "v1", &[]);
    let pull = async |password: &str| {
        let credentials = registry.account(password);
        let url = registry.url("v1");
        let request = ModuleRequest { credentials: Some(credentials), ..request(&url) };
        Fixture::new().store.get(&request).await
    };
    assert_eq!(pull("pass").await.unwrap().bytes, MODULE);
    let error = pull("wrong").await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { authenticated: true, .. }), "{error}");
}

#[tokio::test]
async fn a_foreign_registry_behind_tls_is_trusted_by_its_authority_and_by_nothing_else() {
    let Some(registry) = ForeignRegistry::start(Protection::PasswordAndTls) else { return };
    registry.copy(&Image::compat(MODULE), "v1", &[]);
    let url = format!("oci://{}/demo:v1", registry.name());
    let pull = async |fixture: Fixture| {
        let credentials = Some(registry.account("pass"));
        fixture.store.get(&ModuleRequest { credentials, ..request(&url) }).await
    };
    assert_eq!(pull(registry.fixture()).await.unwrap().bytes, MODULE);
    let known = |options: &mut wasmplug_module::StoreOptions| {
        options.hosts.insert("registry.test".into(), "127.0.0.1".parse().unwrap());
    };
    let error = pull(Fixture::with(known)).await.unwrap_err();
    assert!(matches!(error, FetchError::Tls { plain_http: false, .. }), "{error}");
    let insecure = Fixture::with(|options| {
        known(options);
        options.insecure_registries.push(registry.name());
    });
    assert_eq!(pull(insecure).await.unwrap().bytes, MODULE);
}

#[tokio::test]
async fn what_we_push_to_a_foreign_registry_is_read_by_skopeo_and_verified_by_its_signature() {
    let Some(registry) = ForeignRegistry::start(Protection::PasswordAndTls) else { return };
    let Some(key) = crate::openssl::KeyPair::new(crate::openssl::Kind::P256) else { return };
    let signing = SigningKey::from_pem(&fs_err::read_to_string(key.private()).unwrap()).unwrap();
    let (fixture, account) = (registry.fixture(), Some(registry.account("pass")));
    for (tag, layout) in [("compat", ImageLayout::Compat), ("oci", ImageLayout::Artifact)] {
        let reference: ImageReference =
            format!("{}/a/b/demo:{tag}", registry.name()).parse().unwrap();
        let image = PackedImage::of_module(&Bytes::from_static(MODULE), layout, &BTreeMap::new());
        let progress = Progress::default();
        let push = || fixture.store.push(&reference, &image, account.as_ref(), &progress);
        let digest = push().await.unwrap();
        assert_eq!(push().await.unwrap(), digest);
        let remote = format!("docker://{}/a/b/demo:{tag}", registry.addr);
        let read = ["--tls-verify=false", "--creds", "user:pass"];
        let inspected = registry.skopeo(&[&["inspect"], &read[..], &[&remote]].concat());
        let said = String::from_utf8_lossy(&inspected.stdout);
        assert!(said.contains(&digest.to_string()), "{tag}: {said} {inspected:?}");
        fixture.store.sign(&reference, &signing, account.as_ref()).await.unwrap();
        let verification_key = Some(key.public.clone());
        let url = format!("oci://{reference}");
        let wanted =
            ModuleRequest { credentials: account.clone(), verification_key, ..request(&url) };
        let module = registry.fixture().store.get(&wanted).await.unwrap();
        assert_eq!((module.bytes.as_ref(), module.signatures.len()), (MODULE, 1), "{tag}");
        let other = crate::openssl::KeyPair::new(crate::openssl::Kind::P256).unwrap();
        let wanted = ModuleRequest { verification_key: Some(other.public.clone()), ..wanted };
        let error = registry.fixture().store.get(&wanted).await.unwrap_err();
        assert!(matches!(error, FetchError::Signature { .. }), "{tag}: {error}");
    }
    // The layer of the container image is one that container tools unpack.
    let layout = registry.directory.path().join("back");
    let to = format!("oci:{}:demo", layout.display());
    let from = format!("docker://{}/a/b/demo:compat", registry.addr);
    let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--src-creds", "user:pass"];
    let copied = registry.skopeo(&[&copy[..], &[&from, &to]].concat());
    assert!(copied.status.success(), "{copied:?}");
}

#[tokio::test]
async fn an_image_that_umoci_made_is_read() {
    let Some(registry) = ForeignRegistry::start(Protection::Password) else { return };
    let Some(umoci) = find("umoci") else {
        println!("SKIPPED: needs `umoci`");
        return;
    };
    let folder = registry.directory.path();
    fs_err::write(folder.join("plugin.wasm"), MODULE).unwrap();
    let umoci = |arguments: &[&str]| {
        let output = Command::new(&umoci).args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    umoci(&["init", "--layout", "made"]);
    umoci(&["new", "--image", "made:v1"]);
    umoci(&["insert", "--rootless", "--image", "made:v1", "plugin.wasm", "/plugin.wasm"]);
    registry.copy_layout(&format!("oci:{}:v1", folder.join("made").display()), "umoci", &[]);
    let credentials = Some(registry.account("pass"));
    let url = registry.url("umoci");
    let module = Fixture::new().store.get(&ModuleRequest { credentials, ..request(&url) }).await;
    assert_eq!(module.unwrap().bytes, MODULE);
}
