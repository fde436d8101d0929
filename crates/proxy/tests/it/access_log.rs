//! Lines of the access log: one for each stream, whoever answered it.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use wasmplug_proxy::{AccessLog, AccessLogFormat, AccessLogSink};
use wasmplug_testkit::{Scripted, Upstream};

use crate::harness::{Authority, Dialer, Plugin, Running, Setup, eventually, strict};

/// Keeps every line.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

// === impl Lines ===

impl Lines {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first lines, once there are so many; streams end after their answers.
    fn wait(&self, count: usize) -> Vec<String> {
        eventually(|| self.all().len() >= count);
        self.all()
    }
}

impl AccessLogSink for Lines {
    fn write(&self, line: &[u8]) {
        let line = String::from_utf8(line.to_vec()).expect("lines are text");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn lost_lines(&self) -> u64 {
        7
    }
}

fn start(setup: Setup, format: AccessLogFormat) -> (Running, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let sink = Arc::clone(&lines) as Arc<dyn AccessLogSink>;
    let setup = setup.tune(move |config| config.access_log = Some(AccessLog { format, sink }));
    (setup.start(), lines)
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

const TAG: &str = "on request_headers:\n (drop (call $get #request ':path'))\n (drop)";
const DENY: &str = "on request_headers:\n (call $reply #403 'no' {x-a: 1})";

#[test]
fn a_stream_with_a_plugin_is_told_with_the_time_of_the_plugin() {
    let setup = Setup::new().plugin(Plugin::guest(TAG).named("tag")).upstream(Upstream::echo());
    let (proxy, lines) = start(setup, AccessLogFormat::Json);
    proxy.exchange(
        "POST /a?b=c HTTP/1.1\r\nhost: shop\r\nuser-agent: probe\r\nx-request-id: r-1\r\n\
         x-forwarded-for: 10.1.1.1\r\ncontent-length: 5\r\n\r\nhello",
    );
    let [line] = lines.wait(1).try_into().unwrap();
    let told = json(&line);
    for (name, expected) in [
        ("method", "POST"),
        ("path", "/a?b=c"),
        ("protocol", "HTTP/1.1"),
        ("authority", "shop"),
        ("user_agent", "probe"),
        ("request_id", "r-1"),
        ("response_code_details", "via_upstream"),
        ("upstream_cluster", "upstream"),
        ("route_name", "default"),
        ("x_forwarded_for", "10.1.1.1"),
    ] {
        assert_eq!(told[name], expected, "{name}: {line}");
    }
    assert_eq!(told["upstream_host"], proxy.upstream().addr().to_string());
    assert_eq!((&told["response_code"], &told["bytes_received"]), (&200.into(), &5.into()));
    assert!(told["bytes_sent"].as_u64().unwrap() > 0, "{line}");
    assert!(told["plugins"]["default/tag"].is_u64(), "{line}");
    assert_eq!(told["response_flags"], Value::Null);
}

#[test]
fn the_name_that_was_asked_for_in_tls_is_told() {
    let authority = Authority::new();
    for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
        let settings = strict(authority.server());
        let setup = Setup::new().tune(|config| config.tls = Some(settings));
        let (proxy, lines) = start(setup, format);
        Dialer::new(&authority).get(proxy.proxy().listen_address()).unwrap();
        let [line] = lines.wait(1).try_into().unwrap();
        match format {
            AccessLogFormat::Text => assert!(line.ends_with(" a.test default \"-\"\n"), "{line}"),
            AccessLogFormat::Json => assert_eq!(json(&line)["requested_server_name"], "a.test"),
        }
    }
}

#[test]
fn a_stream_without_plugins_is_told_too() {
    let (proxy, lines) = start(Setup::new(), AccessLogFormat::Text);
    proxy.get("/x");
    let [line] = lines.wait(1).try_into().unwrap();
    assert!(line.contains("\"GET /x HTTP/1.1\" 200 - via_upstream - \"-\" 0 "), "{line}");
    assert!(line.ends_with(" - default \"-\"\n"), "{line}");
}

#[test]
fn what_a_plugin_answers_is_told_with_its_reason() {
    let setup = Setup::new().plugin(Plugin::guest(DENY).named("deny"));
    let (proxy, lines) = start(setup, AccessLogFormat::Json);
    assert_eq!(proxy.get("/secret").status, 403);
    let [line] = lines.wait(1).try_into().unwrap();
    let told = json(&line);
    assert_eq!(told["path"], "/secret");
    assert_eq!((&told["response_code"], &told["upstream_host"]), (&403.into(), &Value::Null));
    assert_eq!(told["response_code_details"], "guest_reply", "{line}");
}

#[test]
fn a_request_that_no_filter_sees_is_told() {
    let (proxy, lines) = start(Setup::new(), AccessLogFormat::Json);
    assert_eq!(proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").status, 400);
    let [line] = lines.wait(1).try_into().unwrap();
    let told = json(&line);
    assert_eq!((&told["response_code"], &told["method"]), (&400.into(), &"GET".into()));
}

#[test]
fn an_upstream_that_is_away_is_told_by_its_flag() {
    let setup = Setup::new().upstream(Upstream::scripted(|_| Scripted::close()));
    let (proxy, lines) = start(setup, AccessLogFormat::Text);
    assert_eq!(proxy.get("/").status, 503);
    let [line] = lines.wait(1).try_into().unwrap();
    assert!(line.contains("HTTP/1.1\" 503 UC "), "{line}");
}

#[test]
fn no_value_can_end_its_line_or_its_quotes() {
    let (proxy, lines) = start(Setup::new(), AccessLogFormat::Text);
    proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nuser-agent: x\" 200 \t\u{e9}\r\n\r\n");
    let [line] = lines.wait(1).try_into().unwrap();
    assert!(line.contains(r#""x\" 200 \t\xc3\xa9""#), "{line}");
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn a_value_is_cut_where_it_is_too_long() {
    let (proxy, lines) = start(Setup::new(), AccessLogFormat::Json);
    let path = format!("/{}", "a".repeat(5000));
    proxy.get(&path);
    let [line] = lines.wait(1).try_into().unwrap();
    assert_eq!(json(&line)["path"].as_str().map(str::len), Some(4096));
}

#[test]
fn lost_lines_are_counted() {
    let (proxy, _lines) = start(Setup::new().admin(), AccessLogFormat::Text);
    proxy.wait_for_stat("wasmplug_access_log_lost_lines_total 7");
}

#[test]
fn without_an_access_log_nothing_is_counted_as_lost() {
    let proxy = Setup::new().admin().start();
    assert!(!proxy.admin("/stats/prometheus").text().contains("access_log"));
}
