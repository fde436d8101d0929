use crate::harness::{Plugin, Setup};

#[test]
fn a_request_without_plugins_passes_unchanged() {
    let proxy = Setup::new().start();
    let response = proxy.get("/hello?a=b");
    eprintln!("{response}");
    assert_eq!(response.header("x-upstream"), Some("echo"));
}

#[test]
fn guest() {
    let proxy = Setup::new()
        .plugin(Plugin::guest(
            "
        on request_headers:
            (call $add #request 'x-a' 'one')
            (call $add #request 'x-count' (call $decimal (call $count)))
        on response_headers:
            (call $add #response 'x-b' (call $property 'request\\00protocol'))
    ",
        ))
        .start();
    let response = proxy.get("/hello?a=b");
    eprintln!("{response}");
    let response = proxy.get("/hello?a=b");
    eprintln!("{response}");
}
