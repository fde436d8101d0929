//! Chains of two and three: who runs before whom, and what a pause or a reply of one means for the
//! others.

use wasmplug_testkit::{Reply, Upstream};

use super::case::{Case, case, get, post, request};
use super::cases;
use crate::harness::Plugin;

const CALLBACKS: [&str; 9] = [
    "context_create",
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
    "log",
    "done",
];

/// A plugin that logs each callback of a stream under its name; in one of them it does more.
fn telling(name: &str, callback: &str, action: &str) -> Plugin {
    let text = CALLBACKS.map(|known| {
        let action = if known == callback { action } else { "" };
        // Not of the plugin as a whole, whose context is the first of its VM.
        let of_stream = match known {
            "context_create" => "(local.get $parent)",
            "done" => "(i32.ne (local.get $context) #1)",
            _ => "#1",
        };
        format!("on {known}:\n(if {of_stream} (then (call $log '{name} {known}')))\n{action}\n")
    });
    Plugin::guest(&text.concat()).named(name)
}

fn quiet(name: &str) -> Plugin {
    telling(name, "", "")
}

/// A chain of three, of which one acts in one callback.
fn chain(position: usize, callback: &str, action: &str) -> Case {
    let names = ["first", "second", "third"];
    let plugins = names.iter().enumerate().map(|(index, name)| {
        if index == position { telling(name, callback, action) } else { quiet(name) }
    });
    plugins.fold(case().log(), Case::plugin)
}

/// A chain of three, of which one is held in one callback until the next tick.
fn held(position: usize, callback: &str, stream: u32) -> Case {
    let names = ["first", "second", "third"];
    let plugins = names.iter().enumerate().map(|(index, name)| {
        if index != position {
            return quiet(name);
        }
        Plugin::guest(&format!(
            "on configure:
                (call $tick #1)
            on tick:
                (if (call $take_held) (then (call $log '{name} continues') (call $continue #{stream})))
            on {callback}:
                (call $log '{name} holds')
                (call $hold (local.get $context))
                (return #pause)"
        ))
        .named(name)
    });
    plugins.fold(case().log(), Case::plugin)
}

/// A plugin that logs the numbers of its contexts; its module is the same under any name.
fn counting(name: &str) -> Plugin {
    Plugin::guest(
        "on request_headers:
            (call $log_number (local.get $context))
            (call $log_number (call $count))
        on response_headers:
            (call $log_number (local.get $context))",
    )
    .named(name)
}

const REPLY: &str = "(call $reply #403 'refused' {x-a: 1})";
const TRAILERS: &str = "trailer: x-t\ntransfer-encoding: chunked\nte: trailers\n";

fn with_trailers() -> super::case::Request {
    request("POST", "/", TRAILERS, "3\r\none\r\n0\r\nx-t: t\r\n\r\n")
}

/// An upstream that answers with trailers.
fn trailing(case: Case) -> Case {
    let upstream = || {
        Upstream::scripted(|_| {
            let reply = Reply::new(200).header("trailer", "x-trailer");
            reply.chunked(["one"]).trailer("x-trailer", "t").into()
        })
    };
    case.upstream(upstream).trailers().send([with_trailers()])
}

cases! {
    requests_pass_forwards_and_responses_backwards => chain(9, "", "")
        .send([get("/bytes/0"), get("/status/204"), post("/bytes/0", "x")]);
    trailers_pass_in_the_same_order => trailing(chain(9, "", ""));
    a_reply_of_the_first_in_request_headers => chain(0, "request_headers", REPLY).send([get("/")]);
    a_reply_of_the_second_in_request_headers => chain(1, "request_headers", REPLY).send([get("/")]);
    a_reply_of_the_third_in_request_headers => chain(2, "request_headers", REPLY).send([get("/")]);
    a_reply_of_the_first_in_response_headers
        => chain(0, "response_headers", REPLY).send([get("/status/204")]);
    a_reply_of_the_second_in_response_headers
        => chain(1, "response_headers", REPLY).send([get("/status/204")]);
    a_reply_of_the_third_in_response_headers
        => chain(2, "response_headers", REPLY).send([get("/status/204")]);
    a_reply_of_the_first_in_request_trailers => trailing(chain(0, "request_trailers", REPLY));
    a_reply_of_the_second_in_request_trailers => trailing(chain(1, "request_trailers", REPLY));
    a_reply_of_the_third_in_request_trailers => trailing(chain(2, "request_trailers", REPLY));
    the_first_holds_the_request => held(0, "request_headers", 0).send([get("/status/204")]);
    the_second_holds_the_request => held(1, "request_headers", 0).send([get("/status/204")]);
    the_third_holds_the_request => held(2, "request_headers", 0).send([get("/status/204")]);
    the_first_holds_the_response => held(0, "response_headers", 1).send([get("/status/204")]);
    the_second_holds_the_response => held(1, "response_headers", 1).send([get("/status/204")]);
    the_third_holds_the_response => held(2, "response_headers", 1).send([get("/status/204")]);
    the_second_holds_trailers => trailing(held(1, "request_trailers", 0));
    the_second_holds_trailers_of_the_response => trailing(held(1, "response_trailers", 1));
    the_first_makes_trailers => chain(0, "request_body", "
        (if (local.get $end) (then (call $add #request_trailers 'x-made' 'yes')))")
        .trailers().send([post("/bytes/0", "hello"), request(
            "POST",
            "/bytes/0",
            "trailer: x-made\ntransfer-encoding: chunked\n",
            "1\r\na\r\n0\r\n\r\n",
        )]);
    the_third_makes_trailers_of_the_response => chain(2, "response_body", "
        (if (local.get $end) (then (call $add #response_trailers 'x-made' 'yes')))")
        .trailers().send([request("GET", "/bytes/20", "te: trailers\n", "")]);
    a_trap_of_the_first => chain(0, "request_headers", "(unreachable)").send([get("/")]);
    a_trap_of_the_second => chain(1, "request_headers", "(unreachable)").send([get("/")]);
    a_trap_of_the_third => chain(2, "request_headers", "(unreachable)").send([get("/")]);
    a_trap_of_the_first_in_the_response
        => chain(0, "response_headers", "(unreachable)").send([get("/")]);
    a_trap_of_the_third_in_the_response
        => chain(2, "response_headers", "(unreachable)").send([get("/")]);
    two_filters_with_the_same_module_are_two_streams => case().log()
        .plugin(counting("one")).plugin(counting("two")).send([get("/status/204"), get("/")]);
}
