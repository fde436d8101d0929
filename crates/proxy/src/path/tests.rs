use http::Uri;
use wasmplug_api::PathNormalization::{self, Base, DecodeAndMergeSlashes, MergeSlashes, None};

use super::{RefusedPath, normalize, rewritten};

const LEVELS: [PathNormalization; 4] = [None, Base, MergeSlashes, DecodeAndMergeSlashes];

/// The target as it is sent on; `400` and `404` if it is not.
fn sent(target: &str, level: PathNormalization) -> String {
    match rewritten(target, level) {
        Ok(written) => {
            let written = written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            written.unwrap_or_else(|| target.to_owned())
        }
        Err(RefusedPath::Invalid) => "400".to_owned(),
        Err(RefusedPath::NotAPath) => "404".to_owned(),
    }
}

/// Target, and what becomes of it at `BASE`, `MERGE_SLASHES` and `DECODE_AND_MERGE_SLASHES`.
///
/// Source: Istio, `normalization_test.go`; observed in Envoy 1.40.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("/app/../admin", "/admin", "/admin", "/admin"),
    ("/app//", "/app//", "/app/", "/app/"),
    ("/app/%2f", "/app/%2f", "/app/%2f", "/app/"),
    ("/app%2f/", "/app%2f/", "/app%2f/", "/app/"),
    ("/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"),
    ("/app/%2E./admin", "/admin", "/admin", "/admin"),
    (r"/app\admin", "/app/admin", "/app/admin", "/app/admin"),
    (r"/app/\/\/\admin", "/app//////admin", "/app/admin", "/app/admin"),
    ("/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/app/admin/abc"),
    (
        r"/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\abc",
        "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
        "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
        "/app/admin/abc",
    ),
    ("/app//../admin", "/app/admin", "/app/admin", "/app/admin"),
    ("/app//../../admin", "/admin", "/admin", "/admin"),
    ("/%c0%2e%c0%2e/admin", "/%c0.%c0./admin", "/%c0.%c0./admin", "/%c0.%c0./admin"),
    ("/admin%00", "400", "400", "400"),
    // Nothing is there to be decoded.
    ("/admin%0", "/admin%0", "/admin%0", "/admin%0"),
    ("/admin%zz", "/admin%zz", "/admin%zz", "/admin%zz"),
    ("/%", "/%", "/%", "/%"),
    ("/a/..%zz/b", "/a/..%zz/b", "/a/..%zz/b", "/a/..%zz/b"),
    // What is decoded does not make an encoding of what was none.
    ("/%%34%31", "/%2541", "/%2541", "/%2541"),
    ("/%%341", "/%2541", "/%2541", "/%2541"),
    ("/%4%31", "/%2541", "/%2541", "/%2541"),
    ("/%0%41/x", "/%250A/x", "/%250A/x", "/%250A/x"),
    ("/%%30%30", "/%2500", "/%2500", "/%2500"),
    ("/%%41z", "/%Az", "/%Az", "/%Az"),
    ("/%zz%41", "/%zzA", "/%zzA", "/%zzA"),
    // Left alone by every level.
    ("/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a"),
    ("/%c0%ae%c0%ae/a", "/%c0%ae%c0%ae/a", "/%c0%ae%c0%ae/a", "/%c0%ae%c0%ae/a"),
    ("/...", "/...", "/...", "/..."),
    (
        "/a;x=y/b,c/0x2e0x2e/D",
        "/a;x=y/b,c/0x2e0x2e/D",
        "/a;x=y/b,c/0x2e0x2e/D",
        "/a;x=y/b,c/0x2e0x2e/D",
    ),
    ("/.a/..b/c./d..", "/.a/..b/c./d..", "/.a/..b/c./d..", "/.a/..b/c./d.."),
    // Dot segments wherever they stand.
    ("/.", "/", "/", "/"),
    ("/..", "/", "/", "/"),
    ("/a/.", "/a/", "/a/", "/a/"),
    ("/a/..", "/", "/", "/"),
    ("/a/./b", "/a/b", "/a/b", "/a/b"),
    ("/a/b/../../../c", "/c", "/c", "/c"),
    ("/a/%2e", "/a/", "/a/", "/a/"),
    ("/.%2e/x", "/x", "/x", "/x"),
    ("/a/%2e.%2e/b", "/a/.../b", "/a/.../b", "/a/.../b"),
    (r"/a\..\b", "/b", "/b", "/b"),
    ("/a%2f..%2fb", "/a%2f..%2fb", "/a%2f..%2fb", "/b"),
    ("/a%5c..%5cb", "/a%5c..%5cb", "/a%5c..%5cb", "/b"),
    ("/a/%2f../b", "/a/%2f../b", "/a/%2f../b", "/a/b"),
    ("/a/%2E%2E%2fb", "/a/..%2fb", "/a/..%2fb", "/b"),
    // Dot segments with parameters.
    ("/a/..;/b", "/b", "/b", "/b"),
    ("/a/.;/b", "/a/b", "/a/b", "/a/b"),
    ("/a/b/..;a=b;c=d/../e", "/e", "/e", "/e"),
    ("/a/b/..;", "/a/", "/a/", "/a/"),
    (r"/a/b/..;\c", "/a/", "/a/", "/a/"),
    (r"/a\..;/b", "/a/..;/b", "/a/..;/b", "/a/..;/b"),
    ("/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b"),
    ("/a/%2e%2e;/b", "/a/..;/b", "/a/..;/b", "/a/..;/b"),
    ("/a/b/..;x%2fy/c", "/a/c", "/a/c", "/a/y/c"),
    ("/%5c..;x/c", "/%5c..;x/c", "/%5c..;x/c", "/..;x/c"),
    ("/a/b/..;x=%00/c", "/a/c", "/a/c", "/a/c"),
    // Slashes and nothing else.
    ("/", "/", "/", "/"),
    ("//", "//", "//", "//"),
    ("////", "////", "//", "//"),
    ("/%2f", "/%2f", "/%2f", "//"),
    ("//a", "//a", "/a", "/a"),
    ("/a/..//b", "//b", "/b", "/b"),
    ("//.", "//", "//", "//"),
    ("//..", "/", "/", "/"),
    // The query stays as it is.
    ("/?", "/?", "/?", "/?"),
    (
        r"/a?b=/../c%2f\d//%00",
        r"/a?b=/../c%2f\d//%00",
        r"/a?b=/../c%2f\d//%00",
        r"/a?b=/../c%2f\d//%00",
    ),
    ("/a//?x=//", "/a//?x=//", "/a/?x=//", "/a/?x=//"),
    ("/a/..;?x=..;/y", "/?x=..;/y", "/?x=..;/y", "/?x=..;/y"),
    // Characters that are encoded, and encodings that are not needed.
    (
        "/\"<>^`{|}?\"<>^`{|}",
        "/%22%3C%3E%5E%60%7B%7C%7D?\"<>^`{|}",
        "/%22%3C%3E%5E%60%7B%7C%7D?\"<>^`{|}",
        "/%22%3C%3E%5E%60%7B%7C%7D?\"<>^`{|}",
    ),
    ("/%41%7e%2d%5f%3a", "/A~-_%3a", "/A~-_%3a", "/A~-_%3a"),
    // No path.
    ("*", "404", "404", "404"),
];

#[test]
fn every_spelling_gets_the_one_form_of_its_level() {
    for (target, base, merge, decode) in ROWS {
        assert_eq!(sent(target, Base), *base, "{target} at BASE");
        assert_eq!(sent(target, MergeSlashes), *merge, "{target} at MERGE_SLASHES");
        assert_eq!(sent(target, DecodeAndMergeSlashes), *decode, "{target} at DECODE");
    }
}

#[test]
fn without_a_level_paths_stay_as_they_came() {
    for (target, ..) in ROWS.iter().filter(|(target, ..)| target.starts_with('/')) {
        assert_eq!(sent(target, None), *target);
    }
}

/// `/a//b/../c` is `/a/c` at once, and `/a/b/c` only after slashes were merged: one pass decides.
#[test]
fn a_path_that_was_written_anew_is_not_written_again() {
    let odd = ["/%5c..;x/c", "/a/%2e%2e;/b", r"/a\..;/b", "/%252e"];
    for (target, ..) in ROWS.iter().filter(|(target, ..)| !odd.contains(target)) {
        for level in LEVELS {
            let once = sent(target, level);
            if once.starts_with('/') {
                assert_eq!(sent(&once, level), once, "{target} at {level:?}");
            }
        }
    }
}

#[test]
fn bytes_that_no_path_has_are_refused_at_every_level() {
    for target in ["/a\u{e9}", "/a?\u{e9}", "/a\u{7f}", "/a b", "/a\tb", "/a?b\u{0}"] {
        for level in LEVELS {
            assert_eq!(sent(target, level), "400", "{target} at {level:?}");
        }
    }
    assert_eq!(sent("/a%20b%c3%a9?%ff", Base), "/a%20b%c3%a9?%ff");
}

#[test]
fn only_unreserved_characters_are_decoded() {
    for byte in 1..=u8::MAX {
        let target = format!("/a%{byte:02x}b");
        let is_decoded = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let expected = if is_decoded { format!("/a{}b", char::from(byte)) } else { target.clone() };
        assert_eq!(sent(&target, Base), expected);
    }
}

#[test]
fn long_paths_are_written_in_one_go() {
    let target = format!("/{}", "../".repeat(40_000));
    assert_eq!(sent(&target, Base), "/");
    let target = "/a%2f%2e%2e;".repeat(10_000);
    assert!(sent(&target, DecodeAndMergeSlashes).len() < target.len());
    let target = format!("/{}", "a".repeat(100_000));
    assert_eq!(sent(&target, DecodeAndMergeSlashes), target);
}

#[test]
fn the_rest_of_the_target_stays() {
    let mut uri = Uri::from_static("http://shop.test:80/a/../b?c=/../d");
    assert_eq!(normalize(&mut uri, Base), Ok(()));
    assert_eq!(uri, "http://shop.test:80/b?c=/../d");
    let mut uri = Uri::from_static("/a/b?c");
    assert_eq!(normalize(&mut uri, Base), Ok(()));
    assert_eq!(uri, "/a/b?c");
    let mut uri = Uri::from_static("/a%00");
    assert_eq!(normalize(&mut uri, Base), Err(RefusedPath::Invalid));
    let mut uri = Uri::from_static("shop.test:80");
    assert_eq!(normalize(&mut uri, Base), Ok(()));
}

#[test]
fn no_spelling_leaves_a_dot_segment_or_a_backslash() {
    const PARTS: [&str; 16] = [
        "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5C", "\\", ";", "..;", "a", "%", "%%32", "%41",
        "?",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let count = random.usize(1..10);
        let parts = (0..count).map(|_| PARTS[random.usize(..PARTS.len())]);
        let target = format!("/{}", parts.collect::<String>());
        for level in [Base, MergeSlashes, DecodeAndMergeSlashes] {
            let written = sent(&target, level);
            let path = written.split('?').next().unwrap();
            let is_dot = |segment: &str| matches!(segment, "." | "..");
            assert!(!path.split('/').any(is_dot), "{target} is {written} at {level:?}");
            assert!(!path.contains('\\'), "{target} is {written} at {level:?}");
            let is_merged = path == "//" || !path.contains("//");
            assert!(level == Base || is_merged, "{target} is {written} at {level:?}");
            let is_decoded = !path.to_ascii_lowercase().contains("%2f");
            assert!(level != DecodeAndMergeSlashes || is_decoded, "{target} is {written}");
        }
    }
}

#[test]
fn no_path_is_written_as_a_slash() {
    for target in ["http://a", "http://a#f", "http://a/#f", "/#f", "/"] {
        for level in LEVELS {
            let mut uri: Uri = target.parse().unwrap();
            normalize(&mut uri, level).unwrap();
            let target_of_origin = Uri::from(uri.into_parts().path_and_query.unwrap());
            assert_eq!(target_of_origin.to_string(), "/", "{target}");
        }
    }
}
