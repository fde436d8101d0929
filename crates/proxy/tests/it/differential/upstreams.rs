//! What a client and plugins are told when an upstream is used up or takes too long.

use std::time::Duration;

use wasmplug_testkit::{Scripted, Upstream};

use super::case::{Case, case, get, guest, request};
use super::cases;

/// A plugin that tells why there was no answer.
fn telling() -> Case {
    guest(
        "
        on response_headers:
            (call $add #response 'x-details' (call $property 'response\\00code_details'))",
    )
}

fn overflow(case: Case) -> Case {
    let grpc = request("POST", "/a.B/C", "content-type: application/grpc\ncontent-length: 0\n", "");
    case.no_pending_requests().send([get("/"), get("/"), grpc])
}

fn too_slow(case: Case) -> Case {
    let upstream = || Upstream::scripted(|_| Scripted::never());
    case.upstream(upstream).request_timeout(Duration::from_millis(50)).send([get("/")])
}

cases! {
    overflow_without_plugins => overflow(case());
    overflow_with_a_plugin => overflow(telling());
    a_request_that_takes_too_long_without_plugins => too_slow(case());
    a_request_that_takes_too_long_with_a_plugin => too_slow(telling());
}
