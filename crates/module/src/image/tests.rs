use wasmplug_testkit::registry::{Image, Layer, media_type};

use super::*;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn layer_of(image: &Image) -> Result<ModuleLayer, ImageError> {
    match Document::parse(image.manifest().1)? {
        Document::Image(manifest) => manifest.module_layer(),
        Document::Index(_) => panic!("an index"),
    }
}

fn chosen(children: Vec<(&str, Image)>) -> Result<String, ImageError> {
    match Document::parse(Image::index(children).manifest().1)? {
        Document::Index(entries) => IndexEntry::choose(&entries).map(|digest| digest.to_string()),
        Document::Image(_) => panic!("an image"),
    }
}

#[test]
fn every_layout_names_its_module_layer() {
    let gzip = Packing::Tar(Compression::Gzip);
    let zstd = Layer::new(media_type::OCI_LAYER_TAR_ZSTD, MODULE);
    let rows = [
        ("docker", Image::docker(MODULE), gzip),
        ("compat", Image::compat(MODULE), gzip),
        ("zstd", Image::oci([zstd]), Packing::Tar(Compression::Zstd)),
        (
            "tar",
            Image::oci([Layer::new(media_type::OCI_LAYER_TAR, MODULE)]),
            Packing::Tar(Compression::None),
        ),
        ("wasm", Image::single_layer(media_type::WASM, MODULE), Packing::Bare),
        ("older wasm", Image::single_layer(media_type::WASM_CONTENT, MODULE), Packing::Bare),
        ("one layer", Image::single_layer(media_type::MODULE_CONTENT, MODULE), Packing::Bare),
    ];
    for (name, image, packing) in rows {
        let layer = layer_of(&image).unwrap();
        assert_eq!(layer.packing, packing, "{name}");
        assert_eq!(Some(layer.digest.to_string()), image.last_blob_digest(), "{name}");
    }
    let artifact = layer_of(&Image::artifact(MODULE)).unwrap();
    assert_eq!((artifact.packing, artifact.digest), (Packing::Bare, Digest::sha256_of(MODULE)));
}

#[test]
fn the_last_layer_of_an_image_is_the_one() {
    let layers = [b"first", b"other"].map(|it| Layer::new(media_type::DOCKER_LAYER, *it));
    let layer = layer_of(&Image::docker_layers(layers)).unwrap();
    assert_eq!(layer.digest, Digest::sha256_of(b"other"));
}

#[test]
fn images_without_one_module_layer_are_refused() {
    assert_eq!(layer_of(&Image::oci([])), Err(ImageError::NoLayers));
    let config = Layer::new(media_type::MODULE_CONFIG, *b"{}");
    let refused = layer_of(&Image::oci([config])).unwrap_err().to_string();
    assert!(refused.contains("`application/vnd.module.wasm.config.v1+json`"), "{refused}");
    let twice = [Layer::new(media_type::WASM, *b"a"), Layer::new(media_type::WASM, *b"b")];
    assert_eq!(layer_of(&Image::oci(twice)), Err(ImageError::SeveralModuleLayers { count: 2 }));
}

#[test]
fn an_index_prefers_wasm_then_the_only_image_then_linux_amd64() {
    let [a, b, c] = [b"a", b"b", b"c"].map(|it| Image::compat(it));
    let attestation = || ("attestation", Image::artifact(b"x"));
    let rows = [
        (vec![("linux/amd64", &a), ("wasi/wasm", &b)], &b),
        (vec![("linux/s390x", &a)], &a),
        (vec![("", &a)], &a),
        (vec![("linux/arm64", &a), ("linux/amd64", &b), ("windows/amd64", &c)], &b),
    ];
    for (children, expected) in rows {
        let mut children: Vec<(&str, Image)> =
            children.into_iter().map(|(platform, image)| (platform, image.clone())).collect();
        children.insert(0, attestation());
        assert_eq!(chosen(children).unwrap(), expected.digest());
    }
}

#[test]
fn an_index_without_a_choice_is_refused_with_its_platforms() {
    let [a, b] = [b"a", b"b"].map(|it| Image::compat(it));
    let refused = chosen(vec![("linux/arm64", a), ("linux/s390x", b)]).unwrap_err().to_string();
    assert!(refused.ends_with("it has `linux/arm64`, `linux/s390x`"), "{refused}");
    assert!(matches!(chosen(vec![]), Err(ImageError::NoPlatform { .. })));
    let only_attestation = chosen(vec![("attestation", Image::artifact(b"x"))]);
    assert!(matches!(only_attestation, Err(ImageError::NoPlatform { .. })));
}

#[test]
fn documents_that_are_not_one_thing_are_refused() {
    let parse = |text: &str| Document::parse(text.as_bytes()).unwrap_err();
    assert_eq!(parse("{}"), ImageError::Neither);
    assert_eq!(parse(r#"{"layers":[],"manifests":[]}"#), ImageError::Neither);
    assert_eq!(parse(r#"{"schemaVersion":1,"fsLayers":[]}"#), ImageError::SchemaOne);
    for text in
        ["", "[]", "<html>", r#"{"layers":[{}]}"#, r#"{"layers":[{"digest":"","size":-1}]}"#]
    {
        assert!(matches!(parse(text), ImageError::Malformed { .. }), "{text}");
    }
}

#[test]
fn digests_that_cannot_be_checked_are_refused() {
    let manifest = r#"{"layers":[{"mediaType":"application/wasm","digest":"md5:00","size":1}]}"#;
    let refused = layer_of(&Image::custom(media_type::OCI_MANIFEST, manifest, [])).unwrap_err();
    assert!(matches!(refused, ImageError::Digest { .. }), "{refused:?}");
}
