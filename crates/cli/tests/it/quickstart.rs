use crate::process::run_to_end;

#[test]
fn once_shows_the_documented_answers_and_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_to_end(folder.path(), &["quickstart", "--once"]);
    assert_eq!(ended.status, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stdout.matches("HTTP/1.1 200 OK").count(), 3, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("HTTP/1.1 403 Forbidden").count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("    as documented").count(), 4, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("configdata: {\"hello\":\"config\"}").count(), 4);
    assert_eq!(ended.stderr, "");
}

#[test]
fn once_shows_the_go_plugin_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_to_end(folder.path(), &["quickstart", "--once", "--plugin", "go"]);
    assert_eq!(ended.status, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("powered-by: proxy-wasm-go-sdk!!"), "{}", ended.stdout);
}

#[test]
fn a_port_in_use_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run_to_end(folder.path(), &["quickstart", "--once", "--listen", &address]);
    assert_eq!(ended.status, Some(1));
    let expected = format!("error: cannot listen on `{address}` for traffic\n");
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: another process uses port"), "{}", ended.stderr);
}
