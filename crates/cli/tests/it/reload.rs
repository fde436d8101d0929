//! Edits of the watched files while requests go on.

use std::path::Path;
use std::process::Command;

use wasmplug_testkit::{RawClient, Upstream, UpstreamThread};

use crate::process::{Running, prebuilt};

/// Allows as many requests as anybody sends: only the response headers matter here.
fn manifest(greeting: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: tag\n\
         spec:\n  url: file://{}\n  pluginConfig:\n    tag: {greeting}\n",
        prebuilt("tag-headers-rust").display()
    )
}

/// Saves a file as editors do: written aside, then renamed over the old one.
fn save(folder: &Path, text: &str) {
    let aside = folder.join(".plugins.yaml.new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, folder.join("plugins.yaml")).unwrap();
}

fn start(folder: &Path, text: &str) -> (Running, UpstreamThread) {
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    save(folder, text);
    let proxy = Running::start(folder, &upstream, &["-f", "."]);
    (proxy, upstream)
}

fn tag(proxy: &Running) -> Option<String> {
    proxy.get("/").header("x-chain-response").map(str::to_owned)
}

#[test]
fn an_edit_an_addition_and_a_removal_take_effect() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("one"));
    assert_eq!(tag(&proxy).as_deref(), Some("one"));
    save(folder.path(), &manifest("two"));
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("two"));
    let added = manifest("three").replace("name: tag", "name: zzz");
    std::fs::write(folder.path().join("more.yaml"), added).unwrap();
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("three,two"));
    std::fs::remove_file(folder.path().join("more.yaml")).unwrap();
    proxy.wait_for("router");
    std::fs::remove_file(folder.path().join("plugins.yaml")).unwrap();
    proxy.wait_for("router");
    assert_eq!(tag(&proxy), None);
}

#[test]
fn the_documented_plugin_echoes_an_edited_configuration_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let with = |greeting: &str| {
        let text = manifest("").replace("tag-headers-rust", "rate-limit-rust");
        text.replace("    tag: \n", &format!("    hello: {greeting}\n"))
    };
    let (proxy, _upstream) = start(folder.path(), &with("config"));
    // Refused or not by the limit, every answer carries the configuration.
    let configdata = || proxy.get("/").header("configdata").map(str::to_owned);
    assert_eq!(configdata().as_deref(), Some(r#"{"hello":"config"}"#));
    save(folder.path(), &with("world"));
    proxy.wait_for("router");
    assert_eq!(configdata().as_deref(), Some(r#"{"hello":"world"}"#));
    std::fs::remove_file(folder.path().join("plugins.yaml")).unwrap();
    proxy.wait_for("router");
    let response = proxy.get("/");
    assert_eq!((response.status, response.header("who-am-i")), (200, None));
}

#[test]
fn a_broken_edit_keeps_the_old_state_and_says_where_it_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("good"));
    save(folder.path(), &manifest("bad").replace("spec:", "spec: ["));
    proxy.wait_for("plugins.yaml:7:15: error: invalid YAML");
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("good"));
    save(folder.path(), &manifest("bad").replace("url:", "priority: high\n  url:"));
    proxy.wait_for("plugins.yaml:6:13: error: spec.priority");
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("good"));
    save(folder.path(), &manifest("mended"));
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("mended"));
}

#[test]
fn a_configuration_that_the_plugin_refuses_keeps_its_last_good_form() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("good"));
    save(folder.path(), &manifest("[1]"));
    proxy.wait_for("error: cannot start `default/tag`");
    proxy.wait_for("its last good form stays in effect");
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("good"));
    let dump = proxy.admin("/config_dump").json().unwrap();
    assert_eq!(dump["rejected"][0]["effect"], "the form that was accepted last goes on");
}

#[test]
fn swaps_lose_no_request_of_open_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("v0"));
    let listen = proxy.listen;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let load = std::thread::spawn(move || {
        let mut client = RawClient::connect(listen).unwrap();
        let mut seen: Vec<String> = Vec::new();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let response = client.get("/").unwrap();
            assert_eq!(response.status, 200);
            let tag = response.header("x-chain-response").unwrap().to_owned();
            if seen.last() != Some(&tag) {
                seen.push(tag);
            }
        }
        seen
    });
    for version in 1..=10 {
        save(folder.path(), &manifest(&format!("v{version}")));
        proxy.wait_for("router");
    }
    assert_eq!(tag(&proxy).as_deref(), Some("v10"));
    drop(stop);
    let seen = load.join().unwrap();
    // One connection sees the versions in their order, each at most once.
    let numbers: Vec<u32> = seen.iter().map(|tag| tag[1..].parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{seen:?}");
    assert!(numbers.len() > 1, "{seen:?}");
}

#[test]
fn an_edit_under_the_load_of_wrk_fails_no_request() {
    if Command::new("wrk").arg("-v").output().is_err() {
        println!("SKIPPED: wrk is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("before"));
    let url = format!("http://{}/", proxy.listen);
    let load = Command::new("wrk")
        .args(["-t", "1", "-c", "8", "-d", "3", &url])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    for version in 0..5 {
        save(folder.path(), &manifest(&format!("v{version}")));
        proxy.wait_for("router");
    }
    assert_eq!(tag(&proxy).as_deref(), Some("v4"));
    let output = load.wait_with_output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("requests in"), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
}

#[test]
fn a_signal_ends_a_run_that_still_waits_for_its_first_module() {
    let folder = tempfile::tempdir().unwrap();
    // Accepts and never answers: the fetch takes as long as it may.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("url: http://{}/a.wasm", silent.local_addr().unwrap());
    let text = manifest("x");
    let file = text.lines().find(|line| line.contains("url:")).unwrap().trim();
    save(folder.path(), &text.replace(file, &url));
    let status = crate::process::stop_while_starting(folder.path(), &["-f", "."]);
    assert_eq!(status, Some(0));
}

#[test]
fn clients_that_say_nothing_are_not_waited_for_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("x"));
    let _silent = RawClient::connect(proxy.listen).unwrap();
    // The answer to a later connection says that the silent one was accepted before it.
    let mut quiet = RawClient::connect(proxy.listen).unwrap();
    assert_eq!(quiet.get("/").unwrap().status, 200);
    let said = proxy.stop();
    assert!(!said.iter().any(|line| line.contains("cut at the end of the drain")), "{said:?}");
}

#[test]
fn a_policy_that_cannot_be_enforced_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("one"));
    let policy = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: nothing}\nspec: {mtls: {mode: STRICT}}\n";
    save(folder.path(), &format!("{}{policy}", manifest("two")));
    proxy.wait_for("cannot enforce: PeerAuthentication default/nothing");
    assert_eq!(tag(&proxy).as_deref(), Some("one"));
    let elsewhere = policy.replace("name: nothing", "name: nothing, namespace: elsewhere");
    save(folder.path(), &format!("{}{elsewhere}", manifest("three")));
    proxy.wait_for("router");
    assert_eq!(tag(&proxy).as_deref(), Some("three"));
}

#[test]
fn a_policy_is_in_effect_as_soon_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _upstream) = start(folder.path(), &manifest("one"));
    let policy = |spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: nothing}}\nspec: {spec}\n"
        )
    };
    save(folder.path(), &format!("{}{}", manifest("one"), policy("{}")));
    proxy.wait_for("rbac ALLOW  1 policy");
    assert_eq!(proxy.get("/").status, 403);
    save(folder.path(), &format!("{}{}", manifest("one"), policy("{rules: [{}]}")));
    proxy.wait_for("rbac ALLOW  1 policy");
    assert_eq!(tag(&proxy).as_deref(), Some("one"));
}
