//! Plugins that cannot be taken over the first time.

use wasmplug_proxy::{Refusal, RejectedEffect};

use crate::harness::{Plugin, Setup};

/// What is wrong, the plugin, how it is refused, and a word of the reason.
fn broken() -> Vec<(Plugin, Refusal, u16, &'static str, &'static str)> {
    let not_wasm = Plugin::bytes(*b"not a module");
    let refuses = Plugin::guest("on configure:\n(return #0)");
    let traps = Plugin::guest("on vm_start:\n(unreachable)");
    vec![
        (Plugin::missing(), Refusal::Forbidden, 403, "RBAC: access denied", "cannot fetch"),
        (not_wasm, Refusal::Forbidden, 403, "RBAC: access denied", "cannot fetch"),
        (Plugin::bytes(*b"\0asm\x01\0\0\0"), Refusal::Unavailable, 503, "", "cannot load"),
        (refuses, Refusal::Unavailable, 503, "", "cannot start"),
        (traps, Refusal::Unavailable, 503, "", "cannot start"),
    ]
}

// Checks: LC-09, LC-10
#[test]
fn every_request_is_refused() {
    for (plugin, refusal, status, body, reason) in broken() {
        let mut proxy = Setup::new().start_unconfigured();
        let rejected = proxy.load(&[plugin]);
        assert_eq!(rejected[0].effect, RejectedEffect::Refuses(refusal), "{reason}");
        assert!(rejected[0].reason.starts_with(reason), "{}", rejected[0].reason);
        let response = proxy.get("/");
        assert_eq!((response.status, response.text().as_str()), (status, body), "{reason}");
        assert!(proxy.upstream().received().is_empty(), "{reason}");
    }
}

// Checks: LC-09
#[test]
fn with_fail_open_it_is_skipped() {
    for (plugin, .., reason) in broken() {
        let marks = Plugin::guest("on response_headers:\n(call $add #response 'x-a' 'b')");
        let mut proxy = Setup::new().start_unconfigured();
        let rejected = proxy.load(&[plugin.fail_open(), marks]);
        assert_eq!(rejected.len(), 1, "{reason}");
        assert_eq!(rejected[0].effect, RejectedEffect::Skipped, "{reason}");
        let response = proxy.get("/");
        assert_eq!((response.status, response.header("x-a")), (200, Some("b")), "{reason}");
    }
}

#[test]
fn the_refusal_passes_the_plugins_before_it() {
    let marks = Plugin::guest("on response_headers:\n(call $add #response 'x-a' 'b')");
    let mut proxy = Setup::new().start_unconfigured();
    assert_eq!(proxy.load(&[marks, Plugin::missing()]).len(), 1);
    let response = proxy.get("/");
    assert_eq!((response.status, response.header("x-a")), (403, Some("b")));
}

#[test]
fn a_plugin_that_became_good_is_taken_over() {
    let mut proxy = Setup::new().start_unconfigured();
    proxy.load(&[Plugin::missing()]);
    assert_eq!(proxy.get("/").status, 403);
    assert!(proxy.load(&[Plugin::guest("on request_headers:")]).is_empty());
    assert_eq!(proxy.get("/").status, 200);
}
