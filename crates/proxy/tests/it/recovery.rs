//! Streams on their way to the upstream while their VM dies of another stream.

use std::io::Write as _;
use std::sync::{Arc, Barrier};

use wasmplug_testkit::Response;

use crate::harness::{Plugin, RawUpstream, Running, Setup, read_head};

/// Dies of `/die`; else does `first` with a request that it sees for the first time, `again` with
/// one that it has seen, marks it, and then has these further callbacks.
fn guest(first: &str, again: &str, further: &str) -> Plugin {
    Plugin::guest(&format!(
        "on request_headers:
            (if (call $is (call $get #request ':path') '/die') (then (unreachable)))
            (if (call $is (call $get #request 'x-seen') 'yes') (then {again}) (else {first}))
            (call $replace #request 'x-seen' 'yes')
        {further}"
    ))
}

/// What a request gets whose VM dies while it is with the upstream; nothing if it is cut. The
/// upstream says whether it saw the plugin's mark.
fn beside_a_death(plugin: Plugin, request: &str) -> (Running, Option<Response>) {
    let (asked, dead) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let waits = [Arc::clone(&asked), Arc::clone(&dead)];
    let upstream = RawUpstream::start(move |mut stream| {
        let head = read_head(&mut stream);
        if head.starts_with("GET /die") {
            // Of a plugin that fails open.
            return;
        }
        for barrier in &waits {
            barrier.wait();
        }
        let seen = if head.contains("x-seen: yes") { "seen" } else { "none" };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{seen}");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let address = upstream.address();
    let setup = Setup::new().admin().tune(move |config| config.upstream = address.into());
    let proxy = setup.plugin(plugin).start();
    let mut client = proxy.client();
    client.send(request).unwrap();
    asked.wait();
    assert_eq!(proxy.get("/die").status, 503);
    dead.wait();
    let response = client.read_response().ok();
    (proxy, response)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
const MARKS_RESPONSES: &str = "on response_headers:
    (call $add #response 'x-left' 'yes')";

fn recoveries(proxy: &Running) -> u64 {
    proxy.specs()[0].stats.recoveries()
}

#[test]
fn it_goes_on_in_a_fresh_vm_with_the_plugin_in_effect() {
    for plugin in [guest("", "", MARKS_RESPONSES), guest("", "", MARKS_RESPONSES).fail_open()] {
        let (proxy, response) = beside_a_death(plugin, GET);
        let response = response.unwrap();
        assert_eq!((response.status, response.text()), (200, "seen".to_owned()));
        assert_eq!(response.header("x-left"), Some("yes"));
        let label = "{plugin=\"default/plugin-0\"}";
        proxy.wait_for_stat(&format!("wasmplug_plugin_recoveries_total{label} 1"));
    }
}

#[test]
fn bodies_of_responses_are_shown_to_it_as_well() {
    let changes = "on response_body:
        (if (local.get $size) (then (call $set_body #1 #0 #all 'left')))";
    let (_proxy, response) = beside_a_death(guest("", "", changes), GET);
    assert_eq!(response.unwrap().text(), "left");
}

#[test]
fn what_it_made_of_the_request_the_second_time_is_forgotten() {
    let first = "(call $set_property 'turn' 'first')";
    let again = "(call $set_property 'turn' 'again') (call $set_property 'new' 'yes')
        (call $replace #request ':path' '/elsewhere')";
    let tells = "on response_headers:
        (call $add #response 'x-turn' (call $property 'turn'))
        (call $add #response 'x-new' (call $property 'new'))
        (call $set_property 'turn' 'last')
        (call $add #response 'x-turn' (call $property 'turn'))";
    let (_proxy, response) = beside_a_death(guest(first, again, tells), GET);
    let response = response.unwrap();
    let turns = response.headers.iter().filter(|(name, _)| name == "x-turn");
    assert_eq!(turns.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["first", "last"]);
    assert_eq!(response.header("x-new"), Some("-"));
}

#[test]
fn one_of_which_the_plugin_would_have_heard_no_more_needs_no_fresh_vm() {
    for (further, request) in [("", GET), ("on request_body:", GET), ("on log:", POST)] {
        let (proxy, response) = beside_a_death(guest("", "", further), request);
        assert_eq!(response.unwrap().text(), "seen", "{further}");
        assert_eq!(recoveries(&proxy), 0, "{further}");
    }
}

#[test]
fn one_that_the_plugin_does_not_let_pass_again_is_refused() {
    for again in
        ["(return #pause)", "(call $reply #403 'no' {a: b})", "(unreachable)", "(call $close #0)"]
    {
        let (proxy, response) = beside_a_death(guest("", again, MARKS_RESPONSES), GET);
        assert_eq!(response.unwrap().status, 503, "{again}");
        assert_eq!(recoveries(&proxy), 0, "{again}");
    }
}

#[test]
fn one_whose_body_the_plugin_has_heard_is_refused() {
    let hears = format!("on request_body:\n{MARKS_RESPONSES}");
    let (proxy, response) = beside_a_death(guest("", "", &hears), POST);
    assert_eq!(response.unwrap().status, 503);
    assert_eq!(recoveries(&proxy), 0);
    // Whereas one that does not hear of bodies has missed nothing.
    let (proxy, response) = beside_a_death(guest("", "", MARKS_RESPONSES), POST);
    assert_eq!(response.unwrap().header("x-left"), Some("yes"));
    assert_eq!(recoveries(&proxy), 1);
}
