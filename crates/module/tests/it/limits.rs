//! Bounds on what registries, servers and archives send: what is at them is taken, and what is
//! beyond is not.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use wasmplug_api::{Digest, PullPolicy};
use wasmplug_module::{ArchiveError, FetchError, FetchSource, ModuleRequest};
use wasmplug_testkit::{
    Image, Received, Registry, Reply, Scripted, Upstream,
    registry::{Fault, media_type, sha256},
};

use crate::fixture::{Fixture, MODULE, SECOND, oci, request, start};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// A key that nobody has signed with here.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAToN+47ujExmQNq0GD+mh2An8R3A9BPBq1VS2KyXwb0k=
-----END PUBLIC KEY-----
";
const MANIFEST_BYTES: usize = 4 * 1024 * 1024;
const QUARTER: usize = 256 * 1024;

/// A JSON text, with blanks behind it up to this length.
fn padded(json: &str, length: usize) -> Vec<u8> {
    let mut bytes = json.as_bytes().to_vec();
    bytes.resize(length, b' ');
    bytes
}

async fn pull_signed(url: &str) -> FetchError {
    let verification_key = Some(KEY.to_owned());
    Fixture::new().store.get(&ModuleRequest { verification_key, ..request(url) }).await.unwrap_err()
}

#[tokio::test]
async fn a_manifest_beyond_the_bound_is_refused_and_one_at_it_is_read() {
    let image = Image::artifact(MODULE);
    let (media_type, manifest) = image.manifest();
    let manifest = std::str::from_utf8(manifest).unwrap();
    let blobs: Vec<_> = image.blobs().map(<[u8]>::to_vec).collect();
    let pull = async |length| {
        let image = Image::custom(media_type, padded(manifest, length), blobs.clone());
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        Fixture::new().get(&oci(&registry, "demo:v1")).await
    };
    assert_eq!(pull(MANIFEST_BYTES).await.unwrap().bytes, MODULE);
    let error = pull(MANIFEST_BYTES + 1).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { what: "manifest", .. }), "{error}");
}

#[tokio::test]
async fn a_token_answer_beyond_the_bound_is_refused_and_one_at_it_is_read() {
    let pull = async |length| {
        let script = move |received: &Received| -> Scripted {
            let host = received.header("host").unwrap();
            let authorized = received.header("authorization") == Some("Bearer secret");
            match received.path.split('?').next() {
                Some("/token") => {
                    Reply::new(200).body(padded(r#"{"token":"secret"}"#, length)).into()
                }
                _ if authorized => Reply::new(404).into(),
                _ => Reply::new(401)
                    .header("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""))
                    .into(),
            }
        };
        let upstream = Upstream::scripted(script).start().await.unwrap();
        Fixture::new().get(&format!("oci://{}/demo:v1", upstream.addr())).await.unwrap_err()
    };
    // Whoever has the token is told that the image is not there.
    let error = pull(QUARTER).await;
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
    let error = pull(QUARTER + 1).await;
    assert!(matches!(error, FetchError::TooLarge { what: "token", .. }), "{error}");
}

/// The tags that an error names when the registry answers with this list.
async fn tags_of(list: Vec<u8>) -> Vec<String> {
    let script = move |received: &Received| -> Scripted {
        if received.path.starts_with("/v2/demo/tags/list") {
            Reply::new(200).body(list.clone()).into()
        } else {
            Reply::new(404).into()
        }
    };
    let upstream = Upstream::scripted(script).start().await.unwrap();
    let url = format!("oci://{}/demo:v1", upstream.addr());
    match Fixture::new().get(&url).await.unwrap_err() {
        FetchError::NotFound { tags, .. } => tags,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_list_of_tags_beyond_the_bound_is_not_shown_and_one_at_it_is() {
    let list = r#"{"tags":["v0"]}"#;
    assert_eq!(tags_of(padded(list, QUARTER)).await, ["v0"]);
    assert_eq!(tags_of(padded(list, QUARTER + 1)).await, [""; 0]);
}

#[tokio::test]
async fn an_error_names_twenty_tags_and_no_more() {
    for (given, named) in [(19, 19), (20, 20), (21, 20)] {
        let tags: Vec<_> = (0..given).map(|number| format!("\"v{number}\"")).collect();
        let list = format!("{{\"tags\":[{}]}}", tags.join(","));
        assert_eq!(tags_of(list.into_bytes()).await.len(), named);
    }
}

#[tokio::test]
async fn a_signature_beyond_the_bound_is_refused_and_one_at_it_is_looked_at() {
    let beside = async |length: usize| {
        let script = move |received: &Received| -> Scripted {
            match received.path.as_str() {
                "/a.wasm.sig" => Reply::new(200).body(vec![b'A'; length]).into(),
                _ => Reply::new(200).body(MODULE).into(),
            }
        };
        let upstream = Upstream::scripted(script).start().await.unwrap();
        pull_signed(&format!("http://{}/a.wasm", upstream.addr())).await
    };
    let in_image = async |length: usize| {
        let image = Image::compat(MODULE);
        let tag = format!("demo:{}.sig", image.digest().replace(':', "-"));
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        registry.push(&tag, signatures([vec![b'x'; length]]));
        pull_signed(&oci(&registry, "demo:v1")).await
    };
    for error in [beside(QUARTER).await, in_image(QUARTER).await] {
        assert!(matches!(error, FetchError::Signature { .. }), "{error}");
    }
    for error in [beside(QUARTER + 1).await, in_image(QUARTER + 1).await] {
        assert!(matches!(error, FetchError::TooLarge { what: "signature", .. }), "{error}");
    }
}

/// An image of signatures, one for each payload.
fn signatures(payloads: impl IntoIterator<Item = Vec<u8>>) -> Image {
    let payloads: Vec<_> = payloads.into_iter().collect();
    let layers: Vec<_> = payloads
        .iter()
        .map(|payload| {
            let (digest, size) = (sha256(payload), payload.len());
            format!(
                r#"{{"mediaType":"{SIMPLE_SIGNING}","digest":"{digest}","size":{size},"annotations":{{"dev.cosignproject.cosign/signature":"AAAA"}}}}"#
            )
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","layers":[{}]}}"#,
        media_type::OCI_MANIFEST,
        layers.join(",")
    );
    Image::custom(media_type::OCI_MANIFEST, manifest, payloads)
}

#[tokio::test]
async fn sixteen_signatures_are_looked_at_in_each_place_and_no_more() {
    for (given, looked_at) in [(15, 15), (16, 16), (17, 16)] {
        let image = Image::compat(MODULE);
        let dashed = image.digest().replace(':', "-");
        let registry = start(Registry::builder().image("demo:v1", image)).await;
        let payloads = (0..given).map(|number: u32| format!("beside {number}").into_bytes());
        registry.push(&format!("demo:{dashed}.sig"), signatures(payloads));
        let referrers: Vec<_> = (0..given)
            .map(|number| ("", signatures([format!("referrer {number}").into_bytes()])))
            .collect();
        registry.push(&format!("demo:{dashed}"), Image::index(referrers));
        let error = pull_signed(&oci(&registry, "demo:v1")).await;
        assert!(matches!(error, FetchError::Signature { .. }), "{error}");
        // No byte of the module is among them.
        assert_eq!(registry.blob_downloads(), 2 * looked_at, "{given}");
    }
}

#[tokio::test]
async fn a_long_etag_is_not_remembered_and_one_at_the_bound_is() {
    for (length, remembered) in [(1024, true), (1025, false)] {
        let etag = format!("\"{}\"", "x".repeat(length - 2));
        let script = {
            let etag = etag.clone();
            move |_: &Received| -> Scripted {
                Reply::new(200).header("etag", &etag).body(MODULE).into()
            }
        };
        let upstream = Upstream::scripted(script).start().await.unwrap();
        let url = format!("http://{}/a.wasm", upstream.addr());
        let fixture = Fixture::new();
        let always =
            ModuleRequest { pull_policy: PullPolicy::Always, refresh: true, ..request(&url) };
        for _ in 0..2 {
            fixture.store.get(&always).await.unwrap();
        }
        let received = upstream.received();
        let asked_with = received.last().unwrap().header("if-none-match");
        assert_eq!(asked_with, remembered.then_some(etag.as_str()));
    }
}

#[tokio::test]
async fn a_look_at_a_tag_is_given_up_after_five_seconds() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let (fixture, url) = (Fixture::new(), oci(&registry, "demo:v1"));
    let refresh = ModuleRequest { refresh: true, ..request(&url) };
    fixture.store.get(&refresh).await.unwrap();
    registry.push("demo:v1", Image::compat(SECOND));
    registry.fault_times("/manifests/", Fault::Hang, 1);
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let module = fixture.store.get(&refresh).await.unwrap();
    assert_eq!((module.bytes.as_ref(), module.source), (MODULE, FetchSource::Cache));
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(fixture.store.counters().moved_tags, 0);
    // One that is answered in time is not.
    fixture.store.get(&refresh).await.unwrap();
    assert_eq!(fixture.store.counters().moved_tags, 1);
}

/// Writes an archive of these files.
fn archive(path: &Path, files: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let file = std::io::BufWriter::new(fs_err::File::create(path).unwrap());
    let mut tar = tar::Builder::new(file);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().into_inner().unwrap();
}

#[test]
fn an_archive_of_too_many_blobs_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("images.tar");
    for (blobs, expected) in [(100_000, "it has no `index.json`"), (100_001, "more than 100000")] {
        archive(
            &path,
            (0..blobs).map(|number| (format!("blobs/sha256/{number:064x}"), Vec::new())),
        );
        let error = fixture.store.load(&path).unwrap_err();
        assert!(matches!(error, ArchiveError::Layout { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn documents_of_an_archive_beyond_the_bound_are_refused() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("images.tar");
    // The end is behind the blanks, so that a text that is cut is none.
    let index = |length: usize| format!("{{\"manifests\":[{}]}}", " ".repeat(length - 16));
    archive(&path, [("index.json".to_owned(), index(MANIFEST_BYTES).into_bytes())]);
    assert_eq!(fixture.store.load(&path).unwrap(), []);
    archive(&path, [("index.json".to_owned(), index(MANIFEST_BYTES + 1).into_bytes())]);
    let error = fixture.store.load(&path).unwrap_err();
    assert!(matches!(error, ArchiveError::Layout { .. }), "{error}");

    let with_manifest = |length| {
        let manifest = padded(r#"{"schemaVersion":2,"layers":[]}"#, length);
        let digest = Digest::sha256_of(&manifest);
        let index = format!(
            r#"{{"manifests":[{{"digest":"{digest}","annotations":{{"org.opencontainers.image.ref.name":"r.example/demo:v1"}}}}]}}"#
        );
        let blob = (format!("blobs/sha256/{}", digest.hex()), manifest);
        archive(&path, [("index.json".to_owned(), index.into_bytes()), blob]);
        fixture.store.load(&path).unwrap_err()
    };
    // It is read, and has no layers.
    let error = with_manifest(MANIFEST_BYTES);
    assert!(matches!(error, ArchiveError::Image { .. }), "{error}");
    let error = with_manifest(MANIFEST_BYTES + 1);
    assert!(matches!(error, ArchiveError::Blob { .. }), "{error}");
}

#[tokio::test]
async fn a_module_that_nobody_used_for_as_long_as_the_bound_goes_when_another_comes() {
    let hour = Duration::from_hours(1);
    // The clock goes on, so the younger one has a margin.
    for (age, stays) in [(hour.saturating_sub(Duration::from_mins(10)), true), (hour, false)] {
        let registry = Registry::builder()
            .image("demo:v1", Image::compat(MODULE))
            .image("demo:v2", Image::compat(SECOND));
        let registry = start(registry).await;
        let fixture = Fixture::with(|options| options.max_unused = hour);
        let first = fixture.get(&oci(&registry, "demo:v1")).await.unwrap().digest;
        let path = fixture.directory.path().join("modules/blobs/sha256").join(first.hex());
        let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
        file.file().set_modified(SystemTime::now() - age).unwrap();
        drop(fixture.get(&oci(&registry, "demo:v2")).await.unwrap());
        let left = fixture.store.list().unwrap();
        assert_eq!(left.iter().any(|it| it.digest == first), stays, "{age:?}");
    }
}

#[tokio::test]
async fn as_many_redirects_as_the_bound_are_followed_and_no_more() {
    let script = |received: &Received| -> Scripted {
        match received.path.trim_start_matches('/').parse::<u32>() {
            Ok(left @ 1..) => Reply::new(302).header("location", &format!("/{}", left - 1)).into(),
            _ => Reply::new(200).body(MODULE).into(),
        }
    };
    let upstream = Upstream::scripted(script).start().await.unwrap();
    let get = async |redirects: u32| {
        Fixture::new().get(&format!("http://{}/{redirects}", upstream.addr())).await
    };
    assert_eq!(get(10).await.unwrap().bytes, MODULE);
    let error = get(11).await.unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
}
