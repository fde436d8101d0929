//! Key sets of token issuers, from servers good and bad.

use std::time::Duration;

use wasmplug_module::{KeySetFetchError, KeySetSource};
use wasmplug_testkit::{End, Received, Reply, Scripted, Upstream, patience};

use crate::fixture::Fixture;

const KEYS: &[u8] = br#"{"keys":[]}"#;

/// A server; every answer knows where it is.
async fn serving(
    answer: impl Fn(&str, &Received) -> Scripted + Send + Sync + 'static,
) -> (Upstream, String) {
    let script = move |received: &Received| {
        let base = format!("http://{}", received.header("host").unwrap());
        answer(&base, received)
    };
    let upstream = Upstream::scripted(script).start().await.unwrap();
    let base = format!("http://{}", upstream.addr());
    (upstream, base)
}

async fn fetch(fixture: &Fixture, source: &KeySetSource) -> Result<Vec<u8>, KeySetFetchError> {
    fixture.store.fetch_key_set(source, patience()).await.map(|bytes| bytes.to_vec())
}

fn uri(uri: impl Into<String>) -> KeySetSource {
    KeySetSource::Uri(uri.into())
}

/// The error and its causes, and the hint.
fn told(error: &KeySetFetchError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    error.hint().map(|hint| format!("{text}; {hint}")).unwrap_or(text)
}

#[tokio::test]
async fn a_key_set_is_fetched_from_its_url() {
    let (upstream, base) = serving(|_, received| match received.path.as_str() {
        "/keys?v=1" => Reply::new(200).body(KEYS).into(),
        "/moved" => Reply::new(302).header("location", "/keys?v=1").into(),
        _ => Reply::new(404).into(),
    })
    .await;
    let fixture = Fixture::new();
    for path in ["/keys?v=1", "/moved"] {
        assert_eq!(fetch(&fixture, &uri(format!("{base}{path}"))).await.unwrap(), KEYS);
    }
    assert_eq!(upstream.received().len(), 3);
}

#[tokio::test]
async fn user_info_becomes_a_header_and_is_in_no_error() {
    let (upstream, base) = serving(|_, _| Reply::new(403).into()).await;
    let with_user = base.replace("http://", "http://user:hunter2@");
    let source = uri(format!("{with_user}/keys"));
    let error = fetch(&Fixture::new(), &source).await.unwrap_err();
    let received = upstream.received();
    assert_eq!(received[0].header("authorization"), Some("Basic dXNlcjpodW50ZXIy"));
    for text in [told(&error), format!("{error:?}"), source.to_string()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(told(&error).contains("answered 403"), "{}", told(&error));
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let (upstream, base) = serving(|base, received| match received.path.as_str() {
        "/realm/.well-known/openid-configuration" => {
            Reply::new(200).body(format!(r#"{{"issuer":"x","jwks_uri":"{base}/certs"}}"#)).into()
        }
        "/certs" => Reply::new(200).body(KEYS).into(),
        _ => Reply::new(404).into(),
    })
    .await;
    let fixture = Fixture::new();
    for issuer in [format!("{base}/realm"), format!("{base}/realm/")] {
        assert_eq!(fetch(&fixture, &KeySetSource::Issuer(issuer)).await.unwrap(), KEYS);
    }
    let paths: Vec<String> = upstream.received().into_iter().map(|it| it.path).collect();
    assert_eq!(paths[..2], ["/realm/.well-known/openid-configuration", "/certs"]);
}

#[tokio::test]
async fn an_issuer_that_does_not_say_so_is_named() {
    for configuration in ["{}", "<html>", r#"{"jwks_uri":1}"#] {
        let (_upstream, base) =
            serving(move |_, _| Reply::new(200).body(configuration).into()).await;
        let error = fetch(&Fixture::new(), &KeySetSource::Issuer(base.clone())).await.unwrap_err();
        let expected = format!(
            "the configuration at `{base}/.well-known/openid-configuration` names no `jwks_uri`; \
             set `jwksUri`"
        );
        assert_eq!(told(&error), expected, "{configuration}");
    }
}

#[tokio::test]
async fn what_is_no_url_is_named() {
    let fixture = Fixture::new();
    for source in [
        uri("file:///etc/passwd"),
        uri("not a url"),
        KeySetSource::Issuer("testing@issuer.example".into()),
    ] {
        let error = fetch(&fixture, &source).await.unwrap_err();
        assert!(told(&error).contains("is not an http URL"), "{}", told(&error));
    }
}

#[tokio::test]
async fn an_issuer_cannot_send_the_proxy_to_itself_or_to_a_metadata_service() {
    for target in ["http://169.254.169.254/keys", "http://localhost:1/keys", "ftp://h/keys"] {
        let (upstream, _) = serving(move |_, _| {
            Reply::new(200).body(format!(r#"{{"jwks_uri":"{target}"}}"#)).into()
        })
        .await;
        // An issuer by a name of its own, which is not known to be this machine.
        let fixture = Fixture::with(|options| {
            options.hosts.insert("issuer.test".into(), "127.0.0.1".parse().unwrap());
            options.hosts.insert("localhost".into(), "127.0.0.1".parse().unwrap());
        });
        let issuer = format!("http://issuer.test:{}", upstream.addr().port());
        let error = fetch(&fixture, &KeySetSource::Issuer(issuer)).await.unwrap_err();
        let text = told(&error);
        assert!(text.contains("refused to connect") || text.contains("not an http URL"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    for answer in [Scripted::never as fn() -> Scripted, || {
        Scripted::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", End::Hang)
    }] {
        let (_upstream, base) = serving(move |_, _| answer()).await;
        let source = uri(format!("{base}/keys"));
        let limit = Duration::from_millis(50);
        let error = Fixture::new().store.fetch_key_set(&source, limit).await.unwrap_err();
        let expected = format!(
            "cannot fetch the key set: fetching `{base}/keys` took longer than 0.05 s; \
             `timeout` of the rule may be longer"
        );
        assert_eq!(told(&error), expected);
    }
}

#[tokio::test]
async fn redirects_in_circles_end() {
    let (upstream, base) =
        serving(|_, _| Reply::new(302).header("location", "/again").into()).await;
    let error = fetch(&Fixture::new(), &uri(format!("{base}/keys"))).await.unwrap_err();
    assert!(told(&error).contains("there were more than 10 redirects"), "{}", told(&error));
    assert_eq!(upstream.received().len(), 11);
}

#[tokio::test]
async fn a_key_set_beyond_the_bound_is_refused_announced_or_not() {
    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(17));
    for answer in [huge.to_owned(), endless] {
        let (_upstream, base) = serving(move |_, _| Scripted::raw(answer.clone(), End::Hang)).await;
        let error = fetch(&Fixture::new(), &uri(format!("{base}/keys"))).await.unwrap_err();
        let text = told(&error);
        assert!(text.contains("the key set of") && text.contains("larger than 1048576"), "{text}");
    }
    let full = vec![b' '; 1024 * 1024];
    let (_upstream, base) = serving(move |_, _| Reply::new(200).body(full.clone()).into()).await;
    assert_eq!(fetch(&Fixture::new(), &uri(base)).await.unwrap().len(), 1024 * 1024);
}

#[tokio::test]
async fn an_issuers_configuration_beyond_the_bound_is_refused_and_one_at_it_is_read() {
    for (length, fits) in [(1024 * 1024, true), (1024 * 1024 + 1, false)] {
        let (_upstream, base) = serving(move |base, received| {
            let mut text = format!("{{\"jwks_uri\":\"{base}/keys\"}}").into_bytes();
            text.resize(length, b' ');
            let is_keys = received.path == "/keys";
            Reply::new(200).body(if is_keys { KEYS.to_vec() } else { text }).into()
        })
        .await;
        match fetch(&Fixture::new(), &KeySetSource::Issuer(base)).await {
            Ok(keys) => assert!(fits && keys == KEYS, "{length}"),
            Err(error) => {
                let text = told(&error);
                assert!(!fits && text.contains("larger than 1048576"), "{length}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_fails_is_asked_three_times() {
    for (status, asked) in [(503, 3), (404, 1), (204, 1)] {
        let (upstream, base) = serving(move |_, _| Reply::new(status).into()).await;
        let error = fetch(&Fixture::new(), &uri(format!("{base}/keys"))).await.unwrap_err();
        assert!(told(&error).starts_with("cannot fetch the key set: "), "{}", told(&error));
        assert_eq!(upstream.received().len(), asked, "{status}");
    }
}
