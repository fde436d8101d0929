//! Messages that nobody changes, and large ones.

use wasmplug_testkit::{Reply, Upstream};

use crate::harness::{Plugin, Setup};

/// A plugin that sees everything and changes nothing.
fn idle() -> Plugin {
    Plugin::guest(
        "on request_headers:
         on request_body:
         on request_trailers:
         on response_headers:
         on response_body:
         on response_trailers:",
    )
}

/// Without plugins and with one: two ways through the proxy.
fn both() -> [Setup; 2] {
    [Setup::new(), Setup::new().plugin(idle())]
}

fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn headers_keep_their_order_and_hop_by_hop_ones_stay_behind() {
    for setup in both() {
        let proxy = setup.start();
        let response = proxy.exchange(
            "GET /headers?x-z=1&keep-alive=5&x-a=2 HTTP/1.1\r\nHost: a.test\r\nX-Z: 1\r\n\
             Connection: keep-alive\r\nKeep-Alive: 5\r\nUpgrade: x\r\nX-A: 2\r\n\r\n",
        );
        let expected = [
            "x-z",
            "x-a",
            "content-type",
            "x-upstream",
            "content-length",
            "x-envoy-upstream-service-time",
            "date",
            "server",
        ];
        assert_eq!(names(&response.headers), expected);
        let received = &proxy.upstream().received()[0];
        let expected = ["host", "x-z", "x-a", "x-forwarded-proto", "x-request-id"];
        assert_eq!(names(&received.headers), expected);
        assert_eq!(received.header("host"), Some("a.test"));
    }
}

#[test]
fn messages_without_a_body_stay_without() {
    for setup in both() {
        let proxy = setup.start();
        let mut client = proxy.client();
        let head = client.exchange("HEAD /bytes/5 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
        for (status, text) in [(204, "/status/204"), (304, "/status/304")] {
            let response = client.get(text).unwrap();
            assert_eq!((response.status, response.body.len()), (status, 0));
            assert_eq!(response.header("content-length"), None);
        }
        assert_eq!(client.get("/bytes/0").unwrap().header("content-length"), Some("0"));
    }
}

#[test]
fn chunks_pass_both_ways() {
    for setup in both() {
        let proxy = setup.start();
        let response = proxy.exchange(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
        );
        assert_eq!(response.json().unwrap()["body"], "onetwo");
        let response = proxy.get("/chunked/3");
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        assert_eq!(response.text(), "chunk 0\nchunk 1\nchunk 2\n");
    }
}

#[test]
fn announced_trailers_pass_both_ways() {
    for setup in both() {
        let upstream = Upstream::scripted(|_| {
            let reply = Reply::new(200).header("trailer", "x-t");
            reply.chunked(["a"]).trailer("x-t", "down").trailer("x-unannounced", "1").into()
        });
        let proxy = setup.upstream(upstream).start();
        let response = proxy.exchange(
            "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-t\r\n\
             transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: up\r\nx-unannounced: 1\r\n\r\n",
        );
        let pair = |value: &str| vec![("x-t".to_owned(), value.to_owned())];
        assert_eq!(response.trailers, pair("down"));
        assert_eq!(proxy.upstream().received()[0].trailers, pair("up"));
    }
}

#[test]
fn one_connection_carries_many_requests() {
    for setup in both() {
        let proxy = setup.start();
        let mut client = proxy.client();
        for number in 0..200 {
            let path = format!("/{number}");
            assert_eq!(client.get(&path).unwrap().json().unwrap()["path"], path);
        }
        assert_eq!(proxy.upstream().connections(), 1);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for setup in both() {
        let proxy = setup.start();
        let mut client = proxy.client();
        client
            .send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
            .unwrap();
        for path in ["/1", "/2"] {
            assert_eq!(client.read_response().unwrap().json().unwrap()["path"], path);
        }
    }
}

#[test]
fn five_megabytes_pass_both_ways() {
    const SIZE: usize = 5 << 20;
    for setup in both() {
        let proxy = setup.start();
        assert_eq!(proxy.get(&format!("/bytes/{SIZE}")).body.len(), SIZE);
        let body: Vec<String> = (0..SIZE / 8).map(|number| format!("{number:08}")).collect();
        let body = body.concat();
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n{body}");
        assert_eq!(proxy.exchange(request).status, 200);
        assert_eq!(proxy.upstream().received()[1].body, body.as_bytes());
    }
}

#[test]
fn five_megabytes_are_edited_on_their_way() {
    const SIZE: usize = 5 << 20;
    let proxy = Setup::new()
        .plugin(Plugin::guest(
            "on response_headers:
                (call $remove #response 'content-length')
            on response_body:
                (if (local.get $end) (then (call $set_body #1 #all #0 'the end')))",
        ))
        .start();
    let response = proxy.get(&format!("/bytes/{SIZE}"));
    assert_eq!(response.body.len(), SIZE + "the end".len());
    assert!(response.body.ends_with(b"the end"));
}
