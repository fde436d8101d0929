use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use wasmplug_api::Digest;
use wasmplug_module::{FetchError, FetchSource};
use wasmplug_testkit::{
    Image, Registry,
    registry::{Layer, gzip, media_type, tar},
};

use crate::fixture::{Fixture, MODULE, SECOND, oci, start, told};

fn archive() -> Vec<u8> {
    tar(&[("usr/share/plugin.wasm", MODULE)])
}

#[tokio::test]
async fn every_layout_of_an_image_is_read() {
    let zstd = compress_to_vec(archive().as_slice(), CompressionLevel::Fastest);
    let layouts = [
        ("docker", Image::docker(MODULE)),
        ("compat", Image::compat(MODULE)),
        ("artifact", Image::artifact(MODULE)),
        ("wasm", Image::single_layer(media_type::WASM, MODULE)),
        ("wasm-content", Image::single_layer(media_type::WASM_CONTENT, MODULE)),
        ("module-content", Image::single_layer(media_type::MODULE_CONTENT, MODULE)),
        ("tar", Image::oci([Layer::new(media_type::OCI_LAYER_TAR, archive())])),
        ("zstd", Image::oci([Layer::new(media_type::OCI_LAYER_TAR_ZSTD, zstd)])),
        ("index", Image::index([("linux/amd64", Image::compat(MODULE))])),
    ];
    for (name, image) in layouts {
        let manifest = image.digest();
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        let module = Fixture::new().get(&oci(&registry, "demo:v1")).await.unwrap();
        assert_eq!(module.bytes, MODULE, "{name}");
        assert_eq!(module.digest, Digest::sha256_of(MODULE), "{name}");
        assert_eq!(module.source, FetchSource::Network, "{name}");
        let top = module.index_digest.or(module.manifest_digest).unwrap();
        assert_eq!(top.to_string(), manifest, "{name}");
    }
}

#[tokio::test]
async fn an_index_with_attestations_leads_to_the_wasm_image() {
    let index = Image::index([
        ("attestation", Image::artifact(b"{}")),
        ("linux/amd64", Image::compat(SECOND)),
        ("wasi/wasm", Image::artifact(MODULE)),
    ]);
    let registry = start(Registry::builder().image("demo:v1", index)).await;
    let module = Fixture::new().get(&oci(&registry, "demo:v1")).await.unwrap();
    assert_eq!(module.bytes, MODULE);
}

#[tokio::test]
async fn images_without_a_module_are_refused_with_the_reason() {
    let text = Layer::new("text/plain", *b"hello");
    let no_module = gzip(&tar(&[("README", b"x")]));
    let nested = Image::index([("linux/amd64", Image::index([]))]);
    let rows = [
        (
            Image::oci([text]),
            "no layer of the image can hold a module; its layers are `text/plain`",
        ),
        (Image::oci([]), "the image has no layers"),
        (
            Image::oci([Layer::new(media_type::OCI_LAYER_TAR_GZIP, no_module)]),
            "no `plugin.wasm` and no other `.wasm` file in the archive",
        ),
        (Image::index([]), "the index has no image for Wasm"),
        (nested, "the index refers to another index"),
        (
            Image::custom(media_type::OCI_MANIFEST, "<html></html>", []),
            "the manifest is malformed: expected value at line 1 column 1",
        ),
        (
            Image::oci([Layer::new(media_type::OCI_LAYER_TAR_GZIP, *b"not gzip")]),
            "broken gzip data",
        ),
        (Image::artifact(b"\0asm\x0d\0\x01\0"), "a component of the WebAssembly component model"),
    ];
    for (image, reason) in rows {
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        let error = Fixture::new().get(&oci(&registry, "demo:v1")).await.unwrap_err();
        assert!(told(&error).contains(reason), "{}", told(&error));
        assert!(!error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_missing_tag_is_told_with_the_tags_that_exist() {
    let registry = Registry::builder()
        .image("demo:v1", Image::compat(MODULE))
        .image("demo:v2", Image::compat(SECOND));
    let registry = start(registry).await;
    let url = oci(&registry, "demo:v3");
    let error = Fixture::new().get(&url).await.unwrap_err();
    let expected = format!("`{url}` does not exist\nhint: the repository has the tags `v1`, `v2`");
    assert_eq!(told(&error), expected);
    let error = Fixture::new().get(&oci(&registry, "other:v1")).await.unwrap_err();
    assert!(matches!(&error, FetchError::NotFound { tags, .. } if tags.is_empty()), "{error}");
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_refused_and_what_just_fits_is_not() {
    let module = [MODULE, &[0; 5000]].concat();
    let images = [
        ("bare", Image::artifact(&module)),
        ("inflated", Image::compat(&module)),
        (
            "archive",
            Image::oci([Layer::new(media_type::OCI_LAYER_TAR, tar(&[("plugin.wasm", &module)]))]),
        ),
    ];
    for (name, image) in images {
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        let url = oci(&registry, "demo:v1");
        let small = Fixture::with(|options| options.max_module_bytes = 4000);
        let error = small.get(&url).await.unwrap_err();
        assert!(told(&error).contains("the bound is configurable"), "{name}: {}", told(&error));
        // What the manifest announces to be too large is not even asked for.
        assert_eq!(registry.blob_downloads(), usize::from(name == "inflated"), "{name}");
        // A tar archive of one file is at most four blocks larger.
        let large = Fixture::with(|options| options.max_module_bytes = 5008 + 4 * 512);
        assert_eq!(large.get(&url).await.unwrap().bytes, module, "{name}");
    }
}

#[tokio::test]
async fn a_layer_that_lies_about_its_size_is_bounded_too() {
    let layer = vec![b'x'; 10_000];
    let digest = Digest::sha256_of(&layer);
    let manifest = format!(
        r#"{{"schemaVersion":2,"layers":[{{"mediaType":"application/wasm","digest":"{digest}","size":1}}]}}"#
    );
    let image = Image::custom(media_type::OCI_MANIFEST, manifest, [layer]);
    let registry = start(Registry::builder().image("demo:v1", image)).await;
    let fixture = Fixture::with(|options| options.max_module_bytes = 1000);
    let error = fixture.get(&oci(&registry, "demo:v1")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { what: "layer", limit: 1000, .. }), "{error}");
}
