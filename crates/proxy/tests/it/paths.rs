//! Paths on their way through the proxy, with and without filters.

use crate::harness::{Plugin, Running, Setup};

/// The proxy of a mesh with this setting.
fn start(level: Option<&str>, plugin: Option<Plugin>) -> Running {
    let mesh = level.map(|level| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: 'pathNormalization: {{normalization: {level}}}'}}\n"
        )
    });
    let setup = Setup::new().resources(&mesh.unwrap_or_default());
    plugin.into_iter().fold(setup, Setup::plugin).start()
}

/// The path that the upstream gets; the status if it gets nothing.
fn sent(proxy: &Running, path: &str) -> String {
    let response = proxy.get(path);
    match response.json() {
        Ok(echo) if response.status == 200 => echo["path"].as_str().unwrap().to_owned(),
        _ => response.status.to_string(),
    }
}

/// Input, and what becomes of it at `NONE`, `BASE`, `MERGE_SLASHES`, `DECODE_AND_MERGE_SLASHES`.
///
/// Source: Istio, `normalization_test.go`.
const ROWS: &[(&str, [&str; 4])] = &[
    ("/app#foo", ["/app"; 4]),
    ("/app/../admin", ["/app/../admin", "/admin", "/admin", "/admin"]),
    ("/app//", ["/app//", "/app//", "/app/", "/app/"]),
    ("/app/%2f", ["/app/%2f", "/app/%2f", "/app/%2f", "/app/"]),
    ("/app%2f/", ["/app%2f/", "/app%2f/", "/app%2f/", "/app/"]),
    ("/xyz%30..//abc", ["/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"]),
    ("/app/%2E./admin", ["/app/%2E./admin", "/admin", "/admin", "/admin"]),
    (r"/app\admin", [r"/app\admin", "/app/admin", "/app/admin", "/app/admin"]),
    (r"/app/\/\/\admin", [r"/app/\/\/\admin", "/app//////admin", "/app/admin", "/app/admin"]),
    (
        "/%2Fapp%5cadmin%5Cabc",
        [
            "/%2Fapp%5cadmin%5Cabc",
            "/%2Fapp%5cadmin%5Cabc",
            "/%2Fapp%5cadmin%5Cabc",
            "/app/admin/abc",
        ],
    ),
    (
        r"/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\abc",
        [
            r"/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\abc",
            "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
            "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
            "/app/admin/abc",
        ],
    ),
    ("/app//../admin", ["/app//../admin", "/app/admin", "/app/admin", "/app/admin"]),
    ("/app//../../admin", ["/app//../../admin", "/admin", "/admin", "/admin"]),
    (
        "/%c0%2e%c0%2e/admin",
        ["/%c0%2e%c0%2e/admin", "/%c0.%c0./admin", "/%c0.%c0./admin", "/%c0.%c0./admin"],
    ),
    ("/admin%00", ["/admin%00", "400", "400", "400"]),
];

#[test]
fn every_level_writes_paths_as_a_mesh_does() {
    let levels = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];
    for (number, level) in levels.into_iter().enumerate() {
        let plain = start(Some(level), None);
        let with_plugin = start(Some(level), Some(Plugin::guest("")));
        for (input, expected) in ROWS {
            assert_eq!(sent(&plain, input), expected[number], "{input} at {level}");
            assert_eq!(sent(&with_plugin, input), expected[number], "{input} at {level}, plugin");
        }
    }
}

#[test]
fn without_a_setting_the_level_is_base() {
    let proxy = start(None, None);
    for (input, expected) in ROWS {
        assert_eq!(sent(&proxy, input), expected[1], "{input}");
    }
}

#[test]
fn a_refused_path_reaches_no_plugin_and_no_upstream() {
    let proxy = start(None, Some(Plugin::guest("on request_headers:\n(call $log 'seen')")));
    let response = proxy.get("/a%00");
    assert_eq!((response.status, &*response.text()), (400, ""));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(proxy.get("/a").status, 200);
    proxy.assert_log(&["seen"]);
    assert_eq!(proxy.upstream().received().len(), 1);
}

#[test]
fn a_plugin_sees_the_path_as_it_is_sent_on() {
    let proxy = start(
        None,
        Some(Plugin::guest("on request_headers:\n(call $log (call $get #request ':path'))")),
    );
    assert_eq!(proxy.get("/a/../b?c=/../d").status, 200);
    proxy.assert_log(&["/b?c=/../d"]);
}
