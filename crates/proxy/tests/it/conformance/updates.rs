//! What a change of configuration leaves, and what it begins anew.

use super::{guest, stat};
use crate::harness::{Plugin, Setup};

/// Tells its configuration, the context of the stream, how often its VM was configured and how
/// many responses it has seen. What `text` adds makes it another module.
fn telling(text: &str) -> Plugin {
    guest(&format!(
        "(global $configured (mut i32) (i32.const 0))
        (global $config (mut i32) (i32.const 0))
        (global $config_len (mut i32) (i32.const 0))
        {text}
        on configure:
            (global.set $configured (i32.add (global.get $configured) (i32.const 1)))
            (call $bump 'configured')
            (drop (call $proxy_get_buffer (i32.const 7) (i32.const 0) #all #0x190 #0x194))
            (global.set $config_len (i32.load (i32.const 0x194)))
            (memory.copy (i32.const 0x3e0000) (i32.load (i32.const 0x190)) (global.get $config_len))
        on request_headers:
            (if (call $is (call $get #request ':path') '/share') (then
                (call $share 'k' 'kept')))
        on response_headers:
            (call $add #response 'x-context' (call $decimal (local.get $context)))
            (call $add #response 'x-configured' (call $decimal (global.get $configured)))
            (call $add #response 'x-config' (i32.const 0x3e0000) (global.get $config_len))
            (call $add #response 'x-shared' (call $recall 'k'))
            (call $add #response 'x-n' (call $decimal (call $count)))
        on done:
            (call $bump 'ended')
        on delete:
            (call $bump 'deleted')"
    ))
}

/// One module with this configuration, which it tells as [`shown`].
fn numbered(number: u32) -> Plugin {
    telling("").configured(&format!("{{number: {number}}}"))
}

fn shown(number: u32) -> String {
    format!("{{\"number\":{number}}}")
}

// Checks: UP-01
#[test]
fn another_configuration_is_another_context_in_the_same_vm() {
    let mut proxy = Setup::new().plugin(numbered(1)).start();
    let response = proxy.get("/");
    assert_eq!((response.header("x-configured"), response.header("x-n")), (Some("1"), Some("1")));
    assert!(proxy.load(&[numbered(2)]).is_empty());
    let response = proxy.get("/");
    assert_eq!(response.header("x-config"), Some(&*shown(2)));
    assert_eq!((response.header("x-configured"), response.header("x-n")), (Some("2"), Some("2")));
}

// Checks: UP-03
#[test]
fn a_connection_that_is_kept_meets_the_new_configuration_with_its_next_request() {
    let mut proxy = Setup::new().plugin(numbered(1)).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().header("x-config"), Some(&*shown(1)));
    assert!(proxy.load(&[numbered(2)]).is_empty());
    assert_eq!(client.get("/").unwrap().header("x-config"), Some(&*shown(2)));
}

// Checks: UP-04
#[test]
fn a_plugin_that_was_replaced_ends() {
    let mut proxy = Setup::new().plugin(numbered(1)).admin().start();
    assert_eq!((stat(&proxy, "ended"), stat(&proxy, "deleted")), (0, 0));
    assert!(proxy.load(&[numbered(2)]).is_empty());
    proxy.wait_for_stat("deleted 1");
    assert_eq!(stat(&proxy, "ended"), 1);
}

// Checks: UP-05
#[test]
fn another_module_is_a_fresh_vm_in_which_contexts_begin_anew() {
    let mut proxy = Setup::new().plugin(numbered(1)).start();
    for context in ["2", "3"] {
        assert_eq!(proxy.get("/").header("x-context"), Some(context));
    }
    let other = telling("(global $other (mut i32) (i32.const 1))");
    assert!(proxy.load(&[other]).is_empty());
    let response = proxy.get("/");
    assert_eq!((response.header("x-context"), response.header("x-n")), (Some("2"), Some("1")));
}

// Checks: UP-06
#[test]
fn an_update_without_a_change_calls_nothing() {
    let plugin = || numbered(1);
    let mut proxy = Setup::new().plugin(plugin()).admin().start();
    // In the trial and on the worker.
    proxy.wait_for_stat("configured 2");
    assert!(proxy.load(&[plugin()]).is_empty());
    assert_eq!(proxy.get("/").header("x-configured"), Some("1"));
    assert_eq!(stat(&proxy, "configured"), 2);
}

// Checks: UP-07
#[test]
fn another_environment_is_a_fresh_vm() {
    let with = |value: &str| telling("").with_variable("A", value);
    let mut proxy = Setup::new().plugin(with("b")).start();
    for number in ["1", "2"] {
        assert_eq!(proxy.get("/").header("x-n"), Some(number));
    }
    assert!(proxy.load(&[with("c")]).is_empty());
    assert_eq!(proxy.get("/").header("x-n"), Some("1"));
}

// Checks: UP-08
#[test]
fn shared_data_survives_another_configuration() {
    let mut proxy = Setup::new().plugin(numbered(1)).start();
    assert_eq!(proxy.get("/").header("x-shared"), Some("-"));
    assert_eq!(proxy.get("/share").header("x-shared"), Some("kept"));
    assert!(proxy.load(&[numbered(2)]).is_empty());
    assert_eq!(proxy.get("/").header("x-shared"), Some("kept"));
}

// Checks: UP-10
#[test]
fn an_update_whose_trial_traps_is_refused() {
    let mut proxy = Setup::new().plugin(numbered(1)).start();
    for callback in ["vm_start", "configure"] {
        let traps = Plugin::guest(&format!("on {callback}:\n(unreachable)"));
        assert_eq!(proxy.load(&[traps]).len(), 1, "{callback}");
        let response = proxy.get("/");
        assert_eq!(
            (response.status, response.header("x-config")),
            (200, Some(&*shown(1))),
            "{callback}"
        );
    }
}
