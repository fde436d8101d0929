//! More than anybody needs: the connection is closed, or the work for it stays bounded.

use super::client::{Client, Seen};
use super::frames::{
    END_HEADERS, END_STREAM, GET, WHOLE, block, continuation, data, get, headers, integer, other,
    ping, post, raw_headers, reset, settings, window_update,
};
use super::{both, outcome};
use crate::harness::{Plugin, Running, Setup};

/// Sends as much of it as the peer takes; how the connection ended.
fn flood(proxy: &Running, frames: &[Vec<u8>]) -> Seen {
    let mut client = Client::open(proxy);
    for some in frames.chunks(100) {
        if !client.send(&some.concat()) {
            break;
        }
    }
    client.watch(&[])
}

#[track_caller]
fn assert_calmed(frames: &[Vec<u8>]) {
    for (proxy, name) in &both() {
        let seen = flood(proxy, frames);
        // Who is told to calm down and goes on sending may not get to hear it.
        assert!(
            matches!(seen, Seen::GoAway("ENHANCE_YOUR_CALM") | Seen::Closed),
            "{name}: {seen:?}"
        );
        assert_eq!(proxy.get("/").text(), "fine", "{name}");
    }
}

#[track_caller]
fn assert_borne(frames: &[Vec<u8>]) {
    for (proxy, name) in &both() {
        let frames = [frames, &[get(1, &[])]].concat();
        assert_eq!(outcome(proxy, &frames, &[1]), "1: 200", "{name}");
    }
}

// CVE-2024-27316 and its kin.
#[test]
fn a_head_without_an_end_is_given_up() {
    let begun = raw_headers(1, END_STREAM, &block(GET));
    for part in [Vec::new(), block(&[("x-a", "b")])] {
        let parts = std::iter::repeat_n(continuation(1, 0, &part), 20_000);
        assert_calmed(&std::iter::once(begun.clone()).chain(parts).collect::<Vec<_>>());
    }
}

// CVE-2023-44487.
#[test]
fn streams_that_are_reset_at_once_end_the_connection() {
    const STREAMS: u32 = 5000;
    let streams = (0..STREAMS).map(|index| index * 2 + 1);
    let frames: Vec<_> = streams.flat_map(|id| [get(id, &[]), reset(id, 8)]).collect();
    for (proxy, name) in &both() {
        let seen = flood(proxy, &frames);
        assert!(
            matches!(seen, Seen::GoAway("ENHANCE_YOUR_CALM") | Seen::Closed),
            "{name}: {seen:?}"
        );
        let received = proxy.upstream().received().len();
        assert!(received < STREAMS as usize / 10, "{name}: {received} requests went upstream");
        assert_eq!(proxy.get("/").text(), "fine", "{name}");
    }
}

#[test]
fn some_streams_may_be_reset() {
    let frames: Vec<_> = (0..5).flat_map(|n| [get(n * 2 + 3, &[]), reset(n * 2 + 3, 8)]).collect();
    for (proxy, name) in &both() {
        let mut frames = frames.clone();
        frames.push(get(101, &[]));
        assert_eq!(outcome(proxy, &frames, &[101]), "101: 200", "{name}");
    }
}

/// A request without a path.
fn malformed(index: u32) -> Vec<u8> {
    headers(index * 2 + 1, WHOLE, &[(":method", "GET"), (":scheme", "http"), (":authority", "a")])
}

#[test]
fn requests_that_are_malformed_again_and_again_end_the_connection() {
    assert_calmed(&(0..3000).map(malformed).collect::<Vec<_>>());
}

// CVE-2019-9518.
#[test]
fn data_without_bytes_ends_the_connection() {
    let nothing = std::iter::repeat_n(data(1, 0, b""), 50_000);
    assert_calmed(&std::iter::once(post(1, &[])).chain(nothing).collect::<Vec<_>>());
}

#[test]
fn a_little_data_without_bytes_is_borne() {
    let mut frames = vec![post(3, &[])];
    frames.extend(std::iter::repeat_n(data(3, 0, b""), 10));
    frames.push(data(3, END_STREAM, b"body"));
    for (proxy, name) in &both() {
        assert_eq!(outcome(proxy, &frames, &[3]), "3: 200", "{name}");
        assert_eq!(proxy.upstream().received().pop().unwrap().body, b"body", "{name}");
    }
}

// CVE-2019-9512, CVE-2019-9515: each is answered before the next is read, so nothing piles up.
#[test]
fn pings_and_settings_do_not_keep_a_request_from_its_answer() {
    assert_borne(&vec![ping(b"12345678"); 3000]);
    assert_borne(&vec![settings(&[(3, 100)]); 1000]);
    assert_borne(&vec![window_update(0, 1); 3000]);
    assert_borne(&vec![other(super::frames::Kind::Priority, 0, 1, &[0, 0, 0, 3, 16]); 3000]);
}

/// A whole head in as many frames as it takes.
fn large(stream: u32, block: &[u8]) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = block.chunks(16_000).collect();
    let (last, mut frames) = (parts.len() - 1, Vec::new());
    for (index, part) in parts.iter().enumerate() {
        let end = if index == last { END_HEADERS } else { 0 };
        frames.push(match index {
            0 => raw_headers(stream, END_STREAM | end, part),
            _ => continuation(stream, end, part),
        });
    }
    frames
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let with =
        |bytes: usize| large(1, &block(&[GET, &[("x-a", "b".repeat(bytes).as_str())]].concat()));
    for (proxy, name) in &both() {
        assert_eq!(outcome(proxy, &with(50_000), &[1]), "1: 200", "{name}");
        assert_eq!(outcome(proxy, &with(62_000), &[1]), "1: 431", "{name}");
        assert_eq!(proxy.upstream().received().len(), 1, "{name}");
    }
}

// CVE-2016-1544: a field that is kept once and named often.
#[test]
fn a_head_that_unpacks_to_too_much_is_refused() {
    let mut bomb = block(GET);
    bomb.push(0x40);
    integer(&mut bomb, 3, 0x7f, 0);
    bomb.extend_from_slice(b"x-a");
    integer(&mut bomb, 4000, 0x7f, 0);
    bomb.extend([b'b'; 4000]);
    bomb.extend([0x80 | 0x3e; 10_000]);
    for (proxy, name) in &both() {
        let told = outcome(proxy, &large(1, &bomb), &[1]);
        let is_refused = ["1: 431", "goaway ENHANCE_YOUR_CALM", "1: PROTOCOL_ERROR"];
        assert!(is_refused.contains(&told.as_str()), "{name}: {told}");
        assert!(proxy.upstream().received().is_empty(), "{name}");
    }
}

#[test]
fn too_many_headers_are_refused() {
    let proxies = [Setup::new(), Setup::new().plugin(Plugin::guest(super::PLUGIN))]
        .map(|setup| setup.tune(|config| config.limits.headers = 10).start());
    for proxy in &proxies {
        let with = |count: usize| [get(1, &vec![("x-a", "b"); count])];
        assert_eq!(outcome(proxy, &with(10), &[1]), "1: 200");
        assert_eq!(outcome(proxy, &with(11), &[1]), "1: 431");
        assert_eq!(proxy.upstream().received().len(), 1);
    }
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let holds = Plugin::guest("on request_headers:\n(return #pause)");
    let tune = |setup: Setup| setup.tune(|config| config.limits.concurrent_streams = 3);
    let proxy = tune(Setup::new().plugin(holds)).start();
    let frames: Vec<_> = (0..4).map(|index| get(index * 2 + 1, &[])).collect();
    assert_eq!(outcome(&proxy, &frames[..3], &[]), "open");
    assert_eq!(outcome(&proxy, &frames, &[7]), "7: REFUSED_STREAM");
}

#[test]
fn the_limits_on_resets_can_be_set() {
    let limited = |pending, errors| {
        Setup::new()
            .tune(move |config| {
                config.limits.pending_reset_streams = pending;
                config.limits.error_reset_streams = errors;
            })
            .start()
    };
    let malformed: Vec<_> = (0..5).map(malformed).collect();
    let ids = [1, 3, 5, 7, 9];
    let told = outcome(&limited(20, 10), &malformed, &ids);
    assert!(told.starts_with("1: PROTOCOL_ERROR") && told.contains("9: PROTOCOL_ERROR"), "{told}");
    assert_eq!(outcome(&limited(20, 2), &malformed, &ids), "goaway ENHANCE_YOUR_CALM");
    let resets: Vec<_> = (0..8)
        .flat_map(|index| [headers(index * 2 + 1, END_HEADERS, GET), reset(index * 2 + 1, 8)])
        .collect();
    assert_eq!(outcome(&limited(20, 10), &resets, &[]), "open");
    assert_eq!(outcome(&limited(2, 10), &resets, &[]), "goaway ENHANCE_YOUR_CALM");
}
