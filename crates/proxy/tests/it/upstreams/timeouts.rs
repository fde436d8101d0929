//! How long an upstream may take.

use std::time::Duration;

use wasmplug_testkit::{End, Received, Scripted, Upstream};

use super::{fine, idle};
use crate::harness::{Running, Setup, eventually};

const TIMED_OUT: &str =
    r#"envoy_cluster_upstream_rq_timeout_total{envoy_cluster_name="upstream"} 1"#;
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";

/// Without plugins and with one, in front of an upstream that stalls in as many ways as paths.
fn both(timeout: Option<Duration>, scheme: &'static str) -> [Running; 2] {
    let start = |setup: Setup| {
        let upstream = Upstream::scripted(|received: &Received| match received.path.as_str() {
            "/never" => Scripted::never(),
            "/slow-head" => Scripted::raw("HTTP/1.1 200 OK\r\nx-a: ", End::Hang),
            "/half" => Scripted::raw(HALF, End::Hang),
            _ => fine(received),
        });
        let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
            config.upstream = format!("{scheme}{}", config.upstream).parse().unwrap();
            config.limits.request_timeout = timeout;
        };
        setup.upstream(upstream).tune(tune).admin().start()
    };
    [start(Setup::new()), start(Setup::new().plugin(idle()))]
}

const SHORT: Option<Duration> = Some(Duration::from_millis(20));

#[test]
fn an_upstream_that_does_not_begin_to_answer_in_time_is_a_504() {
    for path in ["/never", "/slow-head"] {
        for proxy in both(SHORT, "") {
            let response = proxy.get(path);
            assert_eq!(
                (response.status, response.text().as_str()),
                (504, "upstream request timeout")
            );
            proxy.wait_for_stat(TIMED_OUT);
            proxy.wait_for_stat(
                r#"envoy_cluster_upstream_cx_active{envoy_cluster_name="upstream"} 0"#,
            );
        }
    }
}

#[test]
fn over_http2_too() {
    for proxy in both(SHORT, "h2c://") {
        assert_eq!(proxy.get("/never").status, 504);
        proxy.wait_for_stat(r#"envoy_cluster_upstream_rq_active{envoy_cluster_name="upstream"} 0"#);
    }
}

#[test]
fn an_answer_that_does_not_end_in_time_is_cut() {
    for proxy in both(SHORT, "") {
        // On a busy machine the time may be over before the answer has begun.
        eventually(|| proxy.client().get("/half").is_err());
    }
}

#[test]
fn an_answer_in_time_passes() {
    for timeout in [None, Some(Duration::from_hours(1))] {
        for scheme in ["", "h2c://"] {
            for proxy in both(timeout, scheme) {
                let mut client = proxy.client();
                for _ in 0..3 {
                    assert_eq!(client.get("/").unwrap().text(), "fine");
                }
                assert_eq!(proxy.upstream().connections(), 1);
            }
        }
    }
}

#[test]
fn the_time_begins_at_the_end_of_the_request() {
    for proxy in both(Some(Duration::from_secs(1)), "") {
        let mut slow = proxy.client();
        slow.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo").unwrap();
        // The time of the other one begins later and is over first.
        assert_eq!(proxy.get("/never").status, 504);
        assert_eq!(proxy.get("/never").status, 504);
        slow.send("dy").unwrap();
        assert_eq!(slow.read_response().unwrap().text(), "fine");
    }
}
