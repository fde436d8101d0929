//! Paths in the one form that the mesh asks for.

use super::case::{Case, case, get, request};
use super::cases;
use crate::harness::Plugin;

/// Spellings of paths, from the Istio suite and around it.
const SPELLINGS: &[&str] = &[
    "/app#foo",
    "/app?x#foo",
    "/app/../admin",
    "/app//",
    "/app/%2f",
    "/app%2f/",
    "/xyz%30..//abc",
    "/app/%2E./admin",
    r"/app\admin",
    r"/app/\/\/\admin",
    "/%2Fapp%5cadmin%5Cabc",
    r"/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\abc",
    "/app//../admin",
    "/app//../../admin",
    "/%c0%2e%c0%2e/admin",
    "/%c0%ae%c0%ae/admin",
    "/%252e%252e/admin",
    "/admin%0",
    "/admin%zz",
    "/%",
    "/...",
    "/a;x=y/b,c/0x2e0x2e/D",
    "/.",
    "/..",
    "/a/.",
    "/a/..",
    "/a/./b",
    "/a/b/../../../c",
    "/a/%2e",
    "/.%2e/x",
    "/a/%2e.%2e/b",
    r"/a\..\b",
    "/a%2f..%2fb",
    "/a%5c..%5cb",
    "/a/%2f../b",
    "/a/..;/b",
    "/a/.;/b",
    "/a/b/..;a=b;c=d/../e",
    "/a/b/..;",
    r"/a/b/..;\c",
    r"/a\..;/b",
    "/a/..%3b/b",
    "/a/%2e%2e;/b",
    "/a/b/..;x%2fy/c",
    "/%5c..;x/c",
    "//",
    "////",
    "/%2f",
    "//a",
    "/a/..//b",
    "//.",
    "//..",
    "/?",
    r"/a?b=/../c%2f\d//%00",
    "/a//?x=//",
    "/a/..;?x=..;/y",
    "/%41%7e%2d%5f%3a",
    "/a%7fb%01",
];

/// A mesh with this setting.
fn mesh(level: &str) -> Case {
    case().resources(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
         data: {{mesh: 'pathNormalization: {{normalization: {level}}}'}}\n"
    ))
}

/// The same with a plugin, which sees the path and changes nothing.
fn seen(level: &str) -> Case {
    mesh(level).plugin(Plugin::guest(
        "
        on request_headers:
            (call $add #request 'x-path' (call $get #request ':path'))
            (call $add #request 'x-property' (call $property 'request\\00path'))",
    ))
}

fn spellings() -> impl Iterator<Item = Vec<u8>> {
    SPELLINGS.iter().map(|path| get(path))
}

cases! {
    without_a_setting => case().send(spellings());
    at_level_none => mesh("NONE").send(spellings());
    at_level_default => mesh("DEFAULT").send(spellings());
    at_level_base => mesh("BASE").send(spellings());
    at_level_merge_slashes => mesh("MERGE_SLASHES").send(spellings());
    at_level_decode_and_merge_slashes => mesh("DECODE_AND_MERGE_SLASHES").send(spellings());
    plugins_at_level_none => seen("NONE").send(spellings());
    plugins_at_level_base => seen("BASE").send(spellings());
    plugins_at_level_decode_and_merge_slashes => seen("DECODE_AND_MERGE_SLASHES").send(spellings());
    over_http2 => seen("DECODE_AND_MERGE_SLASHES").http2()
        .send(SPELLINGS.iter().filter(|path| !path.contains('#')).map(|path| get(path)));
    a_target_with_a_host => seen("BASE").send([
        b"GET http://a.test/b/../c?d=/../e HTTP/1.1\r\nhost: b.test\r\n\r\n".to_vec(),
        b"GET http://a.test HTTP/1.1\r\nhost: b.test\r\n\r\n".to_vec(),
    ]);
    a_path_that_is_refused => seen("BASE").send([get("/a%00")]);
    a_path_that_is_refused_without_plugins => mesh("MERGE_SLASHES").send([get("/a%00?b")]);
    a_refused_path_with_a_body => seen("BASE")
        .send([request("POST", "/a%00", "content-length: 5\n", "hello")]);
    a_refused_path_of_grpc => seen("BASE")
        .send([request("POST", "/%00", "content-type: application/grpc\ncontent-length: 0\n", "")]);
    a_zero_in_the_query => seen("BASE").send([get("/a?%00")]);
    no_path_at_all => seen("BASE").send([request("OPTIONS", "*", "", "")]);
}
