use std::time::Duration;

use wasmplug_module::{FetchError, RedirectRefused};
use wasmplug_testkit::{Image, Received, Registry, Reply, Scripted, Upstream, registry::Fault};

use crate::fixture::{Fixture, MODULE, oci, start, told};

async fn demo() -> (Registry, String) {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let url = oci(&registry, "demo:v1");
    (registry, url)
}

#[tokio::test]
async fn passing_failures_are_tried_three_times() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (registry, url) = demo().await;
        registry.fault_times("/manifests/", Fault::Status(status), 2);
        registry.fault_times("/blobs/", Fault::Status(status), 2);
        assert_eq!(Fixture::new().get(&url).await.unwrap().bytes, MODULE, "{status}");
        assert_eq!(registry.log().len(), 6, "{status}");
    }
}

#[tokio::test]
async fn lasting_failures_are_told_after_the_third_try() {
    let (registry, url) = demo().await;
    registry.fault("/manifests/", Fault::Status(503));
    let error = Fixture::new().get(&url).await.unwrap_err();
    let expected = format!("`{}` answered 503 for `{url}`", registry.addr());
    assert_eq!(told(&error), expected);
    assert!(error.is_transient());
    assert_eq!(registry.log().len(), 3);
}

#[tokio::test]
async fn final_answers_are_not_asked_for_again() {
    for status in [400, 403, 418] {
        let (registry, url) = demo().await;
        registry.fault("/manifests/", Fault::Status(status));
        let error = Fixture::new().get(&url).await.unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert!(!error.is_transient(), "{error}");
        assert_eq!(registry.log().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_between_tries_doubles() {
    let (registry, url) = demo().await;
    registry.fault("/manifests/", Fault::Status(503));
    let fixture = Fixture::with(|options| {
        options.retry_delay = Duration::from_secs(1000);
        options.fetch_timeout = Duration::from_secs(100_000);
    });
    let start = tokio::time::Instant::now();
    fixture.get(&url).await.unwrap_err();
    // The clock stands still but for the two waits.
    assert_eq!(start.elapsed().as_secs(), 3000);
    assert_eq!(registry.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_may_ask_for_a_longer_wait_up_to_a_bound() {
    for (retry_after, waited) in [("7", 14), ("99999", 20), ("soon", 3), ("0", 3)] {
        let busy = move |_: &Received| -> Scripted {
            Reply::new(429).header("retry-after", retry_after).into()
        };
        let upstream = Upstream::scripted(busy).start().await.unwrap();
        let fixture = Fixture::with(|options| {
            options.retry_delay = Duration::from_secs(1);
            options.fetch_timeout = Duration::from_secs(100_000);
        });
        let start = tokio::time::Instant::now();
        let error = fixture.get(&format!("http://{}/", upstream.addr())).await.unwrap_err();
        assert!(matches!(error, FetchError::Status { status: 429, .. }), "{error}");
        // Without a wish it is one second, then two.
        assert_eq!(start.elapsed().as_secs(), waited, "{retry_after}");
    }
}

#[tokio::test]
async fn a_truncated_layer_is_an_interruption() {
    let (registry, url) = demo().await;
    let fixture = Fixture::new();
    registry.fault("/blobs/", Fault::Truncated);
    let error = fixture.get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { .. }), "{error}");
    assert!(error.is_transient());
    registry.clear_faults();
    fixture.get(&url).await.unwrap();
}

#[tokio::test]
async fn a_reset_is_an_interruption() {
    let (registry, url) = demo().await;
    registry.fault("/manifests/", Fault::Reset);
    let error = Fixture::new().get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_given_up() {
    let (registry, url) = demo().await;
    registry.fault("/blobs/", Fault::Hang);
    let error = Fixture::new().get(&url).await.unwrap_err();
    assert_eq!(error.to_string(), format!("fetching `{url}` took longer than 30 s"));
    assert!(error.is_transient());
}

#[tokio::test]
async fn nobody_there_is_told_with_a_hint() {
    let (registry, url) = demo().await;
    let addr = registry.addr();
    registry.stop();
    let error = Fixture::new().get(&url).await.unwrap_err();
    let told = told(&error);
    assert!(told.starts_with(&format!("cannot connect to `{addr}` for `{url}`\n")), "{told}");
    assert!(
        told.ends_with("hint: nothing listens there; is the address right and the server running?")
    );
}

#[tokio::test]
async fn a_login_page_is_recognised() {
    let (registry, url) = demo().await;
    registry.fault("/manifests/", Fault::Html);
    let error = Fixture::new().get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Image { .. }), "{error}");
    registry.clear_faults();
    registry.fault("/blobs/", Fault::Html);
    let error = Fixture::new().get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Corrupt { what: "layer", .. }), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let (registry, url) = demo().await;
    let (storage, _) = demo().await;
    registry.fault("/blobs/", Fault::RedirectToPort(storage.addr().port()));
    assert_eq!(Fixture::new().get(&url).await.unwrap().bytes, MODULE);
    registry.clear_faults();
    registry.fault("/blobs/", Fault::RedirectToPort(registry.addr().port()));
    let before = registry.log().len();
    let error = Fixture::new().get(&url).await.unwrap_err();
    let told = told(&error);
    assert!(told.ends_with("there were more than 10 redirects"), "{told}");
    // The manifest, the layer, and ten redirects.
    assert_eq!(registry.log().len() - before, 12);
}

#[tokio::test]
async fn redirects_to_nowhere_are_refused() {
    for location in
        [None, Some("gopher://example.com/"), Some("http://"), Some("file:///etc/passwd")]
    {
        let script = move |_: &Received| -> Scripted {
            let reply = Reply::new(302);
            location.map_or(Reply::new(302), |it| reply.header("location", it)).into()
        };
        let upstream = Upstream::scripted(script).start().await.unwrap();
        let url = format!("http://{}/plugin.wasm", upstream.addr());
        let error = Fixture::new().get(&url).await.unwrap_err();
        let refused =
            matches!(&error, FetchError::Redirect { source: RedirectRefused::Location, .. });
        assert!(refused, "{location:?}: {error:?}");
    }
}
