use wasmplug_api::{Digest, PullPolicy};
use wasmplug_module::{ChecksumMatch, FetchError, FetchSource, ModuleRequest};
use wasmplug_testkit::{
    End, Received, Reply, Scripted, Upstream,
    registry::{gzip, tar},
};

use crate::fixture::{Fixture, MODULE, SECOND, THIRD, request, told};

/// A web server with these bytes under `/plugin.wasm`, for this user if one is named.
async fn serving(bytes: &[u8], user: Option<&'static str>) -> (Upstream, String) {
    let bytes = bytes.to_vec();
    let script = move |received: &Received| -> Scripted {
        let authorized = user.is_none_or(|user| received.header("authorization") == Some(user));
        match received.path.as_str() {
            _ if !authorized => Reply::new(401).into(),
            "/plugin.wasm" => Reply::new(200).body(bytes.clone()).into(),
            "/moved" => Reply::new(302).header("location", "/plugin.wasm").into(),
            _ => Reply::new(404).into(),
        }
    };
    let upstream = Upstream::scripted(script).start().await.unwrap();
    let base = format!("http://{}", upstream.addr());
    (upstream, base)
}

#[tokio::test]
async fn modules_are_read_however_they_are_packed() {
    let archive = tar(&[("README", b"x"), ("dir/plugin.wasm", MODULE)]);
    for packed in [MODULE.to_vec(), gzip(MODULE), archive.clone(), gzip(&archive)] {
        let (upstream, base) = serving(&packed, None).await;
        let fixture = Fixture::new();
        let url = format!("{base}/plugin.wasm");
        let module = fixture.get(&url).await.unwrap();
        assert_eq!((module.bytes.as_ref(), module.source), (MODULE, FetchSource::Network));
        assert_eq!(module.manifest_digest, None);
        assert_eq!(fixture.get(&url).await.unwrap().source, FetchSource::Cache);
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn what_is_not_a_module_is_described() {
    let rows: [(&[u8], &str); 4] = [
        (b"<!doctype html>", "is not a Wasm module: it looks like an HTML page\nhint: the server"),
        (b"", "is not a Wasm module: it is empty"),
        (&gzip(b"hello"), "is not a Wasm module: it looks like text"),
        (&tar(&[("a.txt", b"x")]), "no `plugin.wasm` and no other `.wasm` file in the archive"),
    ];
    for (bytes, reason) in rows {
        let (_upstream, base) = serving(bytes, None).await;
        let error = Fixture::new().get(&format!("{base}/plugin.wasm")).await.unwrap_err();
        assert!(told(&error).contains(reason), "{}", told(&error));
    }
}

#[tokio::test]
async fn sha256_is_that_of_the_module_and_not_of_its_packing() {
    let packed = gzip(MODULE);
    let (_upstream, base) = serving(&packed, None).await;
    let url = format!("{base}/plugin.wasm");
    let fixture = Fixture::new();
    let with =
        |bytes: &[u8]| ModuleRequest { sha256: Some(Digest::sha256_of(bytes)), ..request(&url) };
    let module = fixture.store.get(&with(MODULE)).await.unwrap();
    assert_eq!(module.checksum, Some(ChecksumMatch::Module));
    for other in [packed.as_slice(), THIRD] {
        let error = fixture.store.get(&with(other)).await.unwrap_err();
        assert!(matches!(error, FetchError::DigestMismatch(_)), "{error}");
    }
}

#[tokio::test]
async fn a_download_beyond_the_bound_is_refused_announced_or_not() {
    let module = [MODULE, &[0; 5000]].concat();
    let chunked = module.clone();
    let script = move |received: &Received| -> Scripted {
        let chunks = chunked.chunks(100).map(<[u8]>::to_vec);
        match received.path.as_str() {
            "/announced" => Reply::new(200).body(chunked.clone()).into(),
            "/inflating" => Reply::new(200).body(gzip(&chunked)).into(),
            _ => Reply::new(200).chunked(chunks).into(),
        }
    };
    let upstream = Upstream::scripted(script).start().await.unwrap();
    for path in ["announced", "chunked", "inflating"] {
        let url = format!("http://{}/{path}", upstream.addr());
        let small = Fixture::with(|options| options.max_module_bytes = 5007);
        let error = small.get(&url).await.unwrap_err();
        assert!(told(&error).contains("than 5007 bytes"), "{path}: {}", told(&error));
        let exact = Fixture::with(|options| options.max_module_bytes = 5008);
        assert_eq!(exact.get(&url).await.unwrap().bytes, module, "{path}");
    }
}

#[tokio::test]
async fn user_info_of_the_url_is_sent_and_never_shown() {
    // `user:pass`, in base64.
    let (upstream, base) = serving(MODULE, Some("Basic dXNlcjpwYXNz")).await;
    let with_user = |pair: &str| base.replace("http://", &format!("http://{pair}@"));
    let fixture = Fixture::new();
    let url = format!("{}/moved", with_user("user:pass"));
    assert_eq!(fixture.get(&url).await.unwrap().bytes, MODULE);
    let error = fixture.get(&format!("{}/moved", with_user("user:hunter2"))).await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { authenticated: true, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    let error = fixture.get(&format!("{base}/plugin.wasm")).await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { authenticated: false, .. }), "{error}");
    assert!(upstream.received().iter().all(|one| !one.path.contains("pass")));
}

#[tokio::test]
async fn a_missing_file_and_odd_statuses_are_told() {
    let (_upstream, base) = serving(MODULE, None).await;
    let error = Fixture::new().get(&format!("{base}/other")).await.unwrap_err();
    assert_eq!(told(&error), format!("`{base}/other` does not exist"));
    for status in [204, 206, 410, 501] {
        let script = move |_: &Received| -> Scripted { Reply::new(status).into() };
        let upstream = Upstream::scripted(script).start().await.unwrap();
        let url = format!("http://{}/plugin.wasm", upstream.addr());
        let error = Fixture::new().get(&url).await.unwrap_err();
        let known = matches!(error, FetchError::Status { .. } | FetchError::NotFound { .. });
        assert!(known, "{status}: {error}");
    }
}

#[tokio::test]
async fn an_announcement_beyond_the_bound_is_enough_to_refuse() {
    let announce = |_: &Received| {
        // The body never comes, so waiting for it would take until the time limit.
        Scripted::raw("HTTP/1.1 200 OK\r\ncontent-length: 5009\r\n\r\n", End::Hang)
    };
    let upstream = Upstream::scripted(announce).start().await.unwrap();
    let fixture = Fixture::with(|options| options.max_module_bytes = 5008);
    let error = fixture.get(&format!("http://{}/", upstream.addr())).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { limit: 5008, .. }), "{error}");
}

#[tokio::test]
async fn a_download_that_has_not_changed_is_not_sent_again() {
    let content = std::sync::Arc::new(std::sync::Mutex::new(("\"one\"", MODULE)));
    let served = std::sync::Arc::clone(&content);
    let upstream = Upstream::scripted(move |received| -> Scripted {
        let (etag, bytes) = *served.lock().unwrap();
        let is_known = received.header("if-none-match") == Some(etag);
        let reply = Reply::new(if is_known { 304 } else { 200 }).header("etag", etag);
        if is_known { reply.into() } else { reply.body(bytes).into() }
    });
    let upstream = upstream.start().await.unwrap();
    let url = format!("http://{}/a.wasm", upstream.addr());
    let mut fixture = Fixture::new();
    let always = ModuleRequest { pull_policy: PullPolicy::Always, refresh: true, ..request(&url) };
    let asked_with = || {
        let received = upstream.received();
        received.last().unwrap().header("if-none-match").map(str::to_owned)
    };
    assert_eq!(fixture.store.get(&always).await.unwrap().bytes, MODULE);
    assert_eq!(asked_with(), None);
    for _ in 0..2 {
        fixture.restart();
        assert_eq!(fixture.store.get(&always).await.unwrap().bytes, MODULE);
        assert_eq!(asked_with().as_deref(), Some("\"one\""));
    }
    *content.lock().unwrap() = ("\"two\"", SECOND);
    assert_eq!(fixture.store.get(&always).await.unwrap().bytes, SECOND);
    // What the cache has lost is asked for in full.
    fixture.store.remove(&Digest::sha256_of(SECOND)).unwrap();
    assert_eq!(fixture.store.get(&always).await.unwrap().bytes, SECOND);
    assert_eq!(asked_with(), None);
}

#[tokio::test]
async fn a_proxy_is_asked_for_everything_but_this_machine() {
    let proxy = Upstream::scripted(|received| -> Scripted {
        let is_right = received.path == "http://web.test/a.wasm"
            && received.header("proxy-authorization") == Some("Basic dXNlcjpwYXNz");
        if is_right { Reply::new(200).body(MODULE).into() } else { Reply::new(502).into() }
    });
    let proxy = proxy.start().await.unwrap();
    let fixture = Fixture::with(|options| {
        options.proxy = Some(format!("http://user:pass@{}", proxy.addr()).parse().unwrap());
    });
    // The name exists nowhere; the proxy alone knows it.
    assert_eq!(fixture.get("http://web.test/a.wasm").await.unwrap().bytes, MODULE);
    let (server, url) = serving(THIRD, None).await;
    let url = format!("{url}/plugin.wasm");
    assert_eq!(fixture.get(&url).await.unwrap().bytes, THIRD);
    assert_eq!((proxy.received().len(), server.received().len()), (1, 1));
    // Addresses are refused whoever would connect to them.
    let error = fixture.get("http://169.254.169.254/a.wasm").await.unwrap_err();
    assert!(matches!(error, FetchError::Blocked { .. }), "{error}");
    let error = Fixture::new().get("http://web.test/a.wasm").await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
    assert_eq!(proxy.received().len(), 1);
}
