//! Modules signed by OpenSSL, in every form and place that signatures have.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmplug_api::Digest;
use wasmplug_module::{
    FetchError, FetchSource, FetchedModule, ModuleRequest, SignatureError, SignaturePolicy,
};
use wasmplug_testkit::{
    Image, Registry, Reply, Scripted, Upstream,
    registry::{Fault, media_type, sha256},
};

use crate::{
    fixture::{Fixture, MODULE, SECOND, is_unreachable, oci, request, start, told},
    openssl::{KINDS, KeyPair, Kind},
};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What cosign signs for an image. Source: its signature specification.
fn payload(image: &str) -> Vec<u8> {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"any"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
    .into_bytes()
}

/// The tag under which cosign puts the signatures of an image.
fn tag(image: &str) -> String {
    format!("demo:{}.sig", image.replace(':', "-"))
}

/// A manifest of signature layers; `subject` makes it refer to an image.
fn signatures(layers: &[(&str, Vec<u8>, Option<String>)], subject: Option<&str>) -> Image {
    let descriptors: Vec<String> = layers
        .iter()
        .map(|(media_type, bytes, signature)| {
            let annotations = signature.as_ref().map_or(String::new(), |signature| {
                format!(r#","annotations":{{"dev.cosignproject.cosign/signature":"{signature}"}}"#)
            });
            let (digest, size) = (sha256(bytes), bytes.len());
            format!(
                r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}{annotations}}}"#
            )
        })
        .collect();
    let refers = subject.map_or(String::new(), |digest| {
        let artifact_type = layers[0].0.replace(SIMPLE_SIGNING, "application/vnd.dev.cosign.artifact.sig.v1+json");
        format!(
            r#","artifactType":"{artifact_type}","subject":{{"mediaType":"{}","digest":"{digest}","size":1}}"#,
            media_type::OCI_MANIFEST
        )
    });
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","layers":[{}]{refers}}}"#,
        media_type::OCI_MANIFEST,
        descriptors.join(",")
    );
    Image::custom(media_type::OCI_MANIFEST, manifest, layers.iter().map(|it| it.1.clone()))
}

/// A simple signing layer about an image.
fn simple(key: &KeyPair, image: &str) -> (&'static str, Vec<u8>, Option<String>) {
    let payload = payload(image);
    let signature = STANDARD.encode(key.sign(&payload));
    (SIMPLE_SIGNING, payload, Some(signature))
}

/// A bundle with an envelope about an image.
fn bundle(key: &KeyPair, image: &str, predicate: &str) -> (&'static str, Vec<u8>, Option<String>) {
    let hex = image.trim_start_matches("sha256:");
    let statement = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"demo","digest":{{"sha256":"{hex}"}}}}],"predicateType":"{predicate}","predicate":{{}}}}"#
    );
    let payload_type = "application/vnd.in-toto+json";
    let signed =
        format!("DSSEv1 {} {payload_type} {} {statement}", payload_type.len(), statement.len());
    let json = format!(
        r#"{{"mediaType":"{BUNDLE}","verificationMaterial":{{"publicKey":{{"hint":""}},"tlogEntries":[]}},"dsseEnvelope":{{"payload":"{}","payloadType":"{payload_type}","signatures":[{{"sig":"{}"}}]}}}}"#,
        STANDARD.encode(&statement),
        STANDARD.encode(key.sign(signed.as_bytes()))
    );
    (BUNDLE, json.into_bytes(), None)
}

async fn pull(fixture: &Fixture, url: &str, keys: &str) -> Result<FetchedModule, FetchError> {
    let verification_key = Some(keys.to_owned());
    fixture.store.get(&ModuleRequest { verification_key, ..request(url) }).await
}

async fn registry(image: Image) -> Registry {
    start(Registry::builder().image("demo:v1", image)).await
}

/// Asserts that it is refused for its signature, and returns what is told.
#[track_caller]
fn refused(result: Result<FetchedModule, FetchError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Signature { .. }), "{error}");
    assert!(!error.is_transient());
    told(&error)
}

#[tokio::test]
async fn every_kind_of_key_verifies_the_signature_beside_an_image() {
    for kind in KINDS {
        let (Some(key), Some(other)) = (KeyPair::new(kind), KeyPair::new(kind)) else { return };
        let image = Image::compat(MODULE);
        let digest = image.digest();
        let registry = registry(image).await;
        registry.push(&tag(&digest), signatures(&[simple(&key, &digest)], None));
        let url = oci(&registry, "demo:v1");
        let module = pull(&Fixture::new(), &url, &key.public).await.unwrap();
        assert_eq!(module.bytes, MODULE, "{kind:?}");
        assert!(module.signatures[0].place.contains("/demo:sha256-"), "{:?}", module.signatures);
        let several = format!("{}{}", other.public, key.public);
        pull(&Fixture::new(), &url, &several).await.unwrap();
        let told = refused(pull(&Fixture::new(), &url, &other.public).await);
        assert!(told.contains(".sig`: none of the keys made it"), "{told}");
    }
}

#[tokio::test]
async fn an_image_that_is_not_signed_is_refused_before_it_is_downloaded() {
    let Some(key) = KeyPair::new(Kind::P256) else { return };
    let image = Image::compat(MODULE);
    let digest = image.digest();
    let registry = registry(image).await;
    let url = oci(&registry, "demo:v1");
    let fixture = Fixture::new();
    let place = format!("{}/{}", registry.addr(), tag(&digest));
    let expected = format!(
        "`{url}` must be signed\nit is not signed: there is nothing at `{place}` or \
         `referrers of {digest}`\nhint: sign it with `wasmplug sign`, or remove the key"
    );
    assert_eq!(refused(pull(&fixture, &url, &key.public).await), expected);
    assert_eq!(registry.blob_downloads(), 0);
    // Without a key it is pulled, and being in the cache does not make it signed.
    fixture.get(&url).await.unwrap();
    refused(pull(&fixture, &url, &key.public).await);
    // Signed later, it is found to be so.
    registry.push(&tag(&digest), signatures(&[simple(&key, &digest)], None));
    // It is fetched anew, for what the cache has of it does not show that it is this image's.
    for source in [FetchSource::Network, FetchSource::Cache] {
        let module = pull(&fixture, &url, &key.public).await.unwrap();
        assert_eq!((module.bytes.as_ref(), module.source), (MODULE, source));
    }
}

#[tokio::test]
async fn a_signed_image_is_not_known_by_what_somebody_wrote_into_the_index() {
    let Some(key) = KeyPair::new(Kind::P256) else { return };
    let [module, other] = [MODULE, SECOND].map(|it| Digest::sha256_of(it).to_string());
    for image in [Image::compat(MODULE), Image::artifact(MODULE)] {
        let digest = image.digest();
        let registry = registry(image).await;
        registry.push(&tag(&digest), signatures(&[simple(&key, &digest)], None));
        registry.push("other:v1", Image::compat(SECOND));
        let url = oci(&registry, "demo:v1");
        let mut fixture = Fixture::new();
        pull(&fixture, &url, &key.public).await.unwrap();
        fixture.get(&oci(&registry, "other:v1")).await.unwrap();
        let path = fixture.directory.path().join("modules/index.json");
        let index = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, index.replace(&module, &other)).unwrap();
        fixture.restart();
        // Without a key the index is believed; with one it is not.
        assert_eq!(fixture.get(&url).await.unwrap().bytes, SECOND);
        let again = pull(&fixture, &url, &key.public).await.unwrap();
        assert_eq!((again.bytes.as_ref(), again.source), (MODULE, FetchSource::Network));
        // Nor is a part of the image that was altered.
        let manifest = digest.trim_start_matches("sha256:");
        let chain = fixture.directory.path().join("modules/chains").join(manifest);
        for entry in fs_err::read_dir(chain).unwrap() {
            assert_eq!(pull(&fixture, &url, &key.public).await.unwrap().source, FetchSource::Cache);
            let path = entry.unwrap().path();
            let mut part = fs_err::read(&path).unwrap();
            part.push(b' ');
            fs_err::write(&path, part).unwrap();
            let again = pull(&fixture, &url, &key.public).await.unwrap();
            assert_eq!(again.source, FetchSource::Network, "{}", path.display());
        }
        registry.stop();
        fs_err::write(&path, fs_err::read_to_string(&path).unwrap().replace(&module, &other))
            .unwrap();
        let error = pull(&fixture, &url, &key.public).await.unwrap_err();
        assert!(is_unreachable(&error), "{error}");
    }
}

#[tokio::test]
async fn a_signature_counts_for_its_own_image_only() {
    let Some(key) = KeyPair::new(Kind::P256) else { return };
    let image = Image::compat(MODULE);
    let (digest, other) = (image.digest(), Image::compat(SECOND).digest());
    let registry = registry(image).await;
    let url = oci(&registry, "demo:v1");
    // Somebody with access to the registry copies the signature of another image.
    registry.push(&tag(&digest), signatures(&[simple(&key, &other)], None));
    let told = refused(pull(&Fixture::new(), &url, &key.public).await);
    assert!(told.contains(&format!(".sig`: it is for `{other}`")), "{told}");
    // Or changes what was signed.
    let (media_type, _, signature) = simple(&key, &other);
    let layer = (media_type, payload(&digest), signature);
    registry.push(&tag(&digest), signatures(&[layer], None));
    let told = refused(pull(&Fixture::new(), &url, &key.public).await);
    assert!(told.contains("none of the keys made it, or what was signed has changed"), "{told}");
    // Among several signatures one that counts is enough.
    let both = [simple(&key, &other), simple(&key, &digest)];
    registry.push(&tag(&digest), signatures(&both, None));
    pull(&Fixture::new(), &url, &key.public).await.unwrap();
}

#[tokio::test]
async fn a_signature_of_the_index_speaks_for_its_images() {
    let Some(key) = KeyPair::new(Kind::P384) else { return };
    let image = Image::index([("linux/amd64", Image::compat(MODULE))]);
    let digest = image.digest();
    let registry = registry(image).await;
    registry.push(&tag(&digest), signatures(&[simple(&key, &digest)], None));
    let url = oci(&registry, "demo:v1");
    let fixture = Fixture::new();
    assert_eq!(pull(&fixture, &url, &key.public).await.unwrap().bytes, MODULE);
    assert_eq!(pull(&fixture, &url, &key.public).await.unwrap().source, FetchSource::Cache);
}

#[tokio::test]
async fn signatures_are_found_among_referrers_with_and_without_the_registrys_help() {
    let Some(key) = KeyPair::new(Kind::P256) else { return };
    let digest = Image::compat(MODULE).digest();
    for layer in [simple(&key, &digest), bundle(&key, &digest, SIGN_PREDICATE)] {
        let signature = signatures(&[layer], Some(&digest));
        let builder = || Registry::builder().image("demo:v1", Image::compat(MODULE));
        // OCI 1.1: the registry lists what refers to an image.
        let registry =
            start(builder().image("demo:any", signature.clone()).lists_referrers()).await;
        let module = pull(&Fixture::new(), &oci(&registry, "demo:v1"), &key.public).await.unwrap();
        assert!(module.signatures[0].place.contains("/demo@sha256:"), "{:?}", module.signatures);
        // Before: clients keep the list under a tag.
        let list = Image::index([("", signature)]);
        let registry = start(builder().image(&format!("demo:{}", digest.replace(':', "-")), list));
        let registry = registry.await;
        pull(&Fixture::new(), &oci(&registry, "demo:v1"), &key.public).await.unwrap();
    }
}

#[tokio::test]
async fn an_attestation_is_not_a_signature() {
    let Some(key) = KeyPair::new(Kind::P256) else { return };
    let digest = Image::compat(MODULE).digest();
    let said = "https://cosign.sigstore.dev/attestation/vuln/v1";
    let signature = signatures(&[bundle(&key, &digest, said)], Some(&digest));
    let registry = Registry::builder().image("demo:v1", Image::compat(MODULE));
    let registry = start(registry.image("demo:any", signature).lists_referrers()).await;
    let told = refused(pull(&Fixture::new(), &oci(&registry, "demo:v1"), &key.public).await);
    assert!(told.contains(&format!("it is not a signature but says `{said}`")), "{told}");
}

#[tokio::test]
async fn a_registry_that_fails_is_told_apart_from_a_missing_signature() {
    let Some(key) = KeyPair::new(Kind::P256) else { return };
    let registry = registry(Image::compat(MODULE)).await;
    let url = oci(&registry, "demo:v1");
    registry.fault(".sig", Fault::Status(503));
    let error = pull(&Fixture::new(), &url, &key.public).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 503, .. }), "{error}");
    assert_eq!(registry.blob_downloads(), 0);
}

#[tokio::test]
async fn kept_signatures_need_no_registry_and_are_checked_anew() {
    let (Some(key), Some(other)) = (KeyPair::new(Kind::Ed25519), KeyPair::new(Kind::Ed25519))
    else {
        return;
    };
    let image = Image::compat(MODULE);
    let digest = image.digest();
    let registry = registry(image).await;
    registry.push(&tag(&digest), signatures(&[simple(&key, &digest)], None));
    let url = oci(&registry, "demo:v1");
    let mut fixture = Fixture::new();
    pull(&fixture, &url, &key.public).await.unwrap();
    registry.stop();
    fixture.restart();
    assert_eq!(pull(&fixture, &url, &key.public).await.unwrap().source, FetchSource::Cache);
    // Another key is not content with what was enough for the first.
    let error = pull(&fixture, &url, &other.public).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
    // Nor is this one with a file that somebody wrote into.
    let kept = fixture.directory.path().join("modules/signatures/sha256");
    let kept = kept.join(digest.trim_start_matches("sha256:"));
    let text = fs_err::read_to_string(&kept).unwrap();
    fs_err::write(&kept, text.replace("\"signature\":\"", "\"signature\":\"AAAA")).unwrap();
    let error = pull(&fixture, &url, &key.public).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_download_is_verified_by_the_file_beside_it() {
    for kind in [Kind::P256, Kind::Ed25519, Kind::Rsa] {
        let Some(key) = KeyPair::new(kind) else { return };
        let raw = key.sign(MODULE);
        let base64 = STANDARD.encode(&raw).into_bytes();
        let bundle = format!(
            r#"{{"mediaType":"{BUNDLE}","messageSignature":{{"signature":"{}"}}}}"#,
            STANDARD.encode(&raw)
        );
        let wrong = key.sign(SECOND);
        for (signature, counts) in [
            (Some(raw), true),
            (Some(base64), true),
            (Some(bundle.into()), true),
            (Some(wrong), false),
            (None, false),
        ] {
            let upstream = Upstream::scripted(move |received| -> Scripted {
                match (received.path.as_str(), &signature) {
                    ("/a.wasm?x=1", _) => Reply::new(200).body(MODULE).into(),
                    ("/a.wasm.sig?x=1", Some(signature)) => {
                        Reply::new(200).body(signature.clone()).into()
                    }
                    _ => Reply::new(404).into(),
                }
            });
            let upstream = upstream.start().await.unwrap();
            let url = format!("http://{}/a.wasm?x=1", upstream.addr());
            let fixture = Fixture::new();
            let pulled = pull(&fixture, &url, &key.public).await;
            if counts {
                assert_eq!(pulled.unwrap().bytes, MODULE, "{kind:?}");
                let again = pull(&fixture, &url, &key.public).await.unwrap();
                assert_eq!(again.source, FetchSource::Cache);
            } else {
                let told = refused(pulled);
                assert!(told.contains("/a.wasm.sig`"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_is_verified_by_the_file_beside_it() {
    let Some(key) = KeyPair::new(Kind::P384) else { return };
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("a.wasm");
    let beside = fixture.directory.path().join("a.wasm.sig");
    let url = format!("file://{}", path.display());
    fs_err::write(&path, MODULE).unwrap();
    let told = refused(pull(&fixture, &url, &key.public).await);
    assert!(told.contains(&format!("there is nothing at `{}`", beside.display())), "{told}");
    fs_err::write(&beside, key.sign(MODULE)).unwrap();
    assert_eq!(pull(&fixture, &url, &key.public).await.unwrap().bytes, MODULE);
    // One byte more.
    fs_err::write(&path, SECOND).unwrap();
    let told = refused(pull(&fixture, &url, &key.public).await);
    assert!(told.contains("none of the keys made it"), "{told}");
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_no_reason_to_do_without() {
    let registry = registry(Image::compat(MODULE)).await;
    let told = refused(pull(&Fixture::new(), &oci(&registry, "demo:v1"), "cosign.pub").await);
    let expected = "the verification key cannot be used\nthere is no `PUBLIC KEY` in PEM in it\n\
                    hint: it begins with `-----BEGIN PUBLIC KEY-----`";
    assert!(told.ends_with(expected), "{told}");
    assert!(registry.log().is_empty());
}

#[tokio::test]
async fn the_policy_of_the_process_binds_resources_with_and_without_a_key() {
    let (Some(key), Some(authors)) = (KeyPair::new(Kind::P256), KeyPair::new(Kind::P256)) else {
        return;
    };
    let image = Image::compat(MODULE);
    let digest = image.digest();
    let registry = registry(image).await;
    let url = oci(&registry, "demo:v1");
    registry.push(&tag(&digest), signatures(&[simple(&authors, &digest)], None));
    let policy = |prefix: &str| {
        let pem = key.public.replace('\n', "\\n");
        let json = format!(r#"{{"rules":[{{"prefix":"{prefix}","keys":["{pem}"]}}]}}"#);
        let policy = SignaturePolicy::parse(&json, |_| Err(std::io::ErrorKind::NotFound.into()));
        Fixture::with(|options| options.signature_policy = Some(policy.unwrap()))
    };
    let covered = policy(&registry.addr().to_string());
    refused(covered.get(&url).await);
    // The author of a resource cannot choose a key in place of the policy's.
    refused(pull(&covered, &url, &authors.public).await);
    let elsewhere = policy("r.example/");
    let error = elsewhere.get(&url).await.unwrap_err();
    let no_rule = matches!(&error, FetchError::Signature { source: SignatureError::NoRule, .. });
    assert!(no_rule, "{error}");
    pull(&elsewhere, &url, &authors.public).await.unwrap();
    let both = [simple(&authors, &digest), simple(&key, &digest)];
    registry.push(&tag(&digest), signatures(&both, None));
    covered.get(&url).await.unwrap();
    let module = pull(&covered, &url, &authors.public).await.unwrap();
    assert_eq!(module.signatures.len(), 2);
    assert_eq!(module.digest, Digest::sha256_of(MODULE));
}
