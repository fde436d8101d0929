//! The tour, which is the same plugin in four languages: each is the same here as in Envoy, and
//! all four are the same.

use wasmplug_testkit::{End, Received, Reply, Scripted, Upstream};

use super::case::{Case, case, get, post, post_chunked, request};
use crate::harness::{Plugin, Setup};

const LANGUAGES: [&str; 4] = ["assemblyscript", "cpp", "go", "rust"];

/// The plugin in one language, with its log and its metrics compared.
fn tour(language: &str) -> Case {
    case().plugin(plugin(language)).log().metrics("tour_")
}

fn plugin(language: &str) -> Plugin {
    Plugin::prebuilt(&format!("tour-{language}"))
        .configured(r#"{"cluster": "auth", "greeting": "good \"day\"", "period": 5}"#)
}

/// Checks a stop of the tour in each language, and that what came of it is the same.
fn check(stop: fn(Case) -> Case) {
    let transcripts = LANGUAGES.map(|language| {
        let own = format!("x-tour: {language}");
        let lines = stop(tour(language)).check_transcript();
        assert!(lines.contains(&own), "{lines:#?}");
        lines.into_iter().filter(|line| *line != own).collect::<Vec<_>>()
    });
    for (language, transcript) in LANGUAGES.iter().zip(&transcripts) {
        assert_eq!(*transcript, transcripts[0], "{language} and {}", LANGUAGES[0]);
    }
}

fn everything(tour: Case) -> Case {
    let forged = request("GET", "/", "x-tour-user: mallory\nx-a: 1\n", "");
    tour.cluster("auth", || Upstream::scripted(answer))
        .send([
            get("/?a=b"),
            forged,
            post("/", "hello, World \u{e9}"),
            post("/", ""),
            post_chunked("/", &["one ", "two ", "three"]),
            post_chunked("/", &[]),
        ])
        .send(["/bytes/20", "/bytes/0", "/chunked/3", "/status/204", "/status/404"].map(get))
        .send([request("HEAD", "/", "", ""), get("/headers?content-type=text/plain")])
        .send([get("/wait/a"), post("/wait/b", "hello"), get("/wait/c")])
        .send([get("/ask/allowed"), post("/ask/allowed", "hello"), get("/ask/anonymous")])
        .send([get("/ask/refused"), get("/ask/refused/silently")])
        .send([get("/ask/broken"), get("/ask/cut")])
}

fn trailers(tour: Case) -> Case {
    let framing = "trailer: x-t\ntransfer-encoding: chunked\nte: trailers\n";
    tour.trailers()
        .upstream(|| {
            Upstream::scripted(|_| {
                let reply = Reply::new(200).header("content-type", "text/plain");
                let reply = reply.header("trailer", "x-trailer");
                reply.chunked(["one ", "two"]).trailer("x-trailer", "t").into()
            })
        })
        .send([request("POST", "/", framing, "3\r\none\r\n4\r\n two\r\n0\r\nx-t: t\r\n\r\n")])
}

fn answer(asked: &Received) -> Scripted {
    match asked.path.as_str() {
        "/ask/allowed" => Reply::new(200).header("x-user", "alice").body("welcome").into(),
        "/ask/anonymous" => Reply::new(200).into(),
        "/ask/refused" => Reply::new(401).body("who are you?\n").into(),
        "/ask/refused/silently" => Reply::new(404).into(),
        "/ask/cut" => {
            Scripted::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_vec(), End::Close)
        }
        _ => Reply::new(500).into(),
    }
}

fn nobody_is_there(tour: Case) -> Case {
    tour.cluster_down("auth")
        .upstream_down()
        .send([get("/"), get("/wait/a"), get("/ask/a")])
        .send([post("/ask/b", "hello")])
}

fn an_unknown_cluster(tour: Case) -> Case {
    tour.send([get("/ask/a"), get("/")]).send([post("/ask/b", "hello")])
}

#[test]
fn headers_bodies_ticks_and_calls() {
    check(everything);
}

#[test]
fn bodies_that_end_with_trailers() {
    check(trailers);
}

#[test]
fn cluster_and_upstream_are_down() {
    check(nobody_is_there);
}

#[test]
fn the_cluster_is_unknown() {
    check(an_unknown_cluster);
}

#[test]
fn all_languages_in_one_chain_count_together() {
    // All plugins add headers of the same names, and the HTTP library keeps these together.
    let names = &["x-tour", "x-tour-greeting", "x-tour-count"];
    let case = case().log().metrics("tour_").unordered(names);
    let chain = LANGUAGES.iter().fold(case, |case, language| case.plugin(plugin(language)));
    chain.send([get("/bytes/20"), post("/", "hello"), get("/wait/a"), get("/ask/a")]).check();
}

#[test]
fn all_languages_refuse_a_configuration_for_the_same_reason() {
    const NO_OBJECT: &str = "it is not a JSON object of texts and whole numbers";
    let refused = [
        ("", NO_OBJECT),
        (r#"{"cluster": ["auth"]}"#, NO_OBJECT),
        (r#"{"cluster": "auth", "period": 1.5}"#, NO_OBJECT),
        (r#"{"cluster": "auth", "period": -1}"#, NO_OBJECT),
        (r#"{"cluster": "auth", "period": true}"#, NO_OBJECT),
        (r#"{"cluster": {"name": "auth"}}"#, NO_OBJECT),
        (r#"{"greeting": "hello"}"#, "`cluster` names no cluster"),
        (r#"{"cluster": ""}"#, "`cluster` names no cluster"),
        (r#"{"cluster": 7}"#, "`cluster` is not a text"),
        (r#"{"cluster": "auth", "authority": "a\tb"}"#, "`authority` is not plain ASCII"),
        (r#"{"cluster": "auth", "greeting": "\u00e9"}"#, "`greeting` is not plain ASCII"),
        (r#"{"cluster": "auth", "greeting": "😀"}"#, "`greeting` is not plain ASCII"),
        (r#"{"cluster": "auth", "period": "5"}"#, "`period` is not a whole number"),
        (r#"{"cluster": "auth", "period": 0}"#, "`period` is not from 1 to 60000"),
        (r#"{"cluster": "auth", "period": 60001}"#, "`period` is not from 1 to 60000"),
        (r#"{"cluster": "auth", "z": 1, "clutser": ""}"#, "`clutser` is no field"),
        (r#"{"cluster": "auth", "\u00e9": 1}"#, "`??` is no field"),
    ];
    let plugins: Vec<Plugin> = refused
        .iter()
        .flat_map(|(configuration, _)| {
            LANGUAGES.map(|language| {
                Plugin::prebuilt(&format!("tour-{language}")).configured(configuration)
            })
        })
        .collect();
    let mut proxy = Setup::new().start_unconfigured();
    let rejected = proxy.load(&plugins);
    assert_eq!(rejected.len(), plugins.len(), "{rejected:?}");
    let mut logged = proxy.log().all();
    let mut expected: Vec<String> = refused
        .iter()
        .flat_map(|(_, reason)| LANGUAGES.map(|_| format!("error configuration refused: {reason}")))
        .collect();
    // Plugins are tried side by side.
    logged.sort();
    expected.sort();
    assert_eq!(logged, expected);
}

#[test]
fn all_languages_take_the_whole_configuration() {
    for language in LANGUAGES {
        let plugin = Plugin::prebuilt(&format!("tour-{language}")).configured(
            r#"{"period": 60000, "greeting": "a\"\\\u0041", "authority": "b", "cluster": "c|d"}"#,
        );
        let proxy = Setup::new().plugin(plugin).start();
        let response = proxy.get("/");
        assert_eq!(response.header("x-tour-greeting"), Some(r#"a"\A"#), "{language}");
        let line = r#"info asks `c|d`, greets with `a"\A`"#;
        assert_eq!(proxy.log().all()[0], line, "{language}");
    }
}
