use wasmplug_api::Digest;
use wasmplug_module::{ChecksumMatch, FetchError, FetchSource, ModuleRequest};
use wasmplug_testkit::registry::gzip;

use crate::fixture::{Fixture, MODULE, SECOND, request, told};

fn write(fixture: &Fixture, bytes: &[u8]) -> String {
    let path = fixture.directory.path().join("a b%61.wasm");
    fs_err::write(&path, bytes).unwrap();
    format!("file://{}", path.display())
}

#[tokio::test]
async fn a_file_is_read_anew_each_time() {
    let fixture = Fixture::new();
    for bytes in [MODULE, SECOND] {
        let url = write(&fixture, bytes);
        let module = fixture.get(&url).await.unwrap();
        assert_eq!((module.bytes.as_ref(), module.source), (bytes, FetchSource::File));
    }
    let blobs = fixture.directory.path().join("modules/blobs/sha256");
    assert_eq!(fs_err::read_dir(blobs).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_is_checked_like_everything_else() {
    let fixture = Fixture::with(|options| options.max_module_bytes = 10);
    let url = write(&fixture, MODULE);
    let with =
        |bytes: &[u8]| ModuleRequest { sha256: Some(Digest::sha256_of(bytes)), ..request(&url) };
    let module = fixture.store.get(&with(MODULE)).await.unwrap();
    assert_eq!(module.checksum, Some(ChecksumMatch::Module));
    let error = fixture.store.get(&with(SECOND)).await.unwrap_err();
    assert!(matches!(error, FetchError::DigestMismatch(_)), "{error}");
    write(&fixture, SECOND);
    let error = fixture.get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { limit: 10, .. }), "{error}");
    write(&fixture, b"hello");
    let error = fixture.get(&url).await.unwrap_err();
    assert_eq!(error.to_string(), format!("`{url}` is not a Wasm module: it looks like text"));
}

#[tokio::test]
async fn a_packed_file_is_not_unpacked() {
    let fixture = Fixture::new();
    let error = fixture.get(&write(&fixture, &gzip(MODULE))).await.unwrap_err();
    assert!(error.to_string().ends_with("it looks like gzip"), "{error}");
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused() {
    let fixture = Fixture::new();
    let directory = format!("file://{}", fixture.directory.path().display());
    let error = fixture.get(&directory).await.unwrap_err();
    assert!(told(&error).ends_with("not a regular file"), "{}", told(&error));
    let error = fixture.get("file:///dev/zero").await.unwrap_err();
    assert!(told(&error).ends_with("not a regular file"), "{}", told(&error));
    let error = fixture.get(&format!("{directory}/missing.wasm")).await.unwrap_err();
    assert!(matches!(error, FetchError::File { .. }), "{error}");
}
