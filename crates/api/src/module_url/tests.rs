use super::*;
use crate::digest::Digest;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str) -> ModuleUrl {
    ModuleUrl::parse(text).unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

fn error(text: &str) -> ModuleUrlError {
    match ModuleUrl::parse(text) {
        Ok(url) => panic!("`{text}` is taken for `{url}`"),
        Err(error) => error,
    }
}

#[test]
fn accepted_urls_have_one_canonical_form() {
    let with_digest = format!("oci://ghcr.io/x/y@sha256:{HEX}");
    let tag_and_digest = format!("ghcr.io/x/y:v1@sha256:{HEX}");
    let rows = [
        // Image references without a scheme.
        ("test", "oci://index.docker.io/library/test:latest"),
        ("owner/test:v1", "oci://index.docker.io/owner/test:v1"),
        ("ghcr.io/x/y", "oci://ghcr.io/x/y:latest"),
        ("ghcr.io/x/y:v1", "oci://ghcr.io/x/y:v1"),
        ("//ghcr.io/x", "oci://ghcr.io/x:latest"),
        ("test.com/test", "oci://test.com/test:latest"),
        ("ghcr.io/x?y=1", "oci://ghcr.io/x:latest"),
        (&tag_and_digest, &format!("oci://ghcr.io/x/y:v1@sha256:{HEX}")),
        // Registries with a port, which Istio refuses or drops without a scheme.
        ("localhost:5000/a:v1", "oci://localhost:5000/a:v1"),
        ("reg.local:5000/a", "oci://reg.local:5000/a:latest"),
        ("192.168.1.1:5000/a", "oci://192.168.1.1:5000/a:latest"),
        ("[::1]:5000/a", "oci://[::1]:5000/a:latest"),
        ("[2001:db8::1]/a:v1", "oci://[2001:db8::1]/a:v1"),
        ("a_b.com:80/x", "oci://a_b.com:80/x:latest"),
        ("registry:5000/a/b:v1", "oci://registry:5000/a/b:v1"),
        // With the scheme.
        ("oci://ghcr.io/istio/fake-wasm:latest", "oci://ghcr.io/istio/fake-wasm:latest"),
        (&with_digest, &with_digest),
        ("OCI://GHCR.io/x", "oci://ghcr.io/x:latest"),
        ("oci://img", "oci://index.docker.io/library/img:latest"),
        ("oci://img:latest", "oci://index.docker.io/library/img:latest"),
        ("oci://img:v1", "oci://index.docker.io/library/img:v1"),
        ("oci://docker.io/img", "oci://index.docker.io/library/img:latest"),
        ("oci://docker.io/o/img:v2", "oci://index.docker.io/o/img:v2"),
        ("oci://index.docker.io/library/img", "oci://index.docker.io/library/img:latest"),
        ("oci://localhost/a", "oci://localhost/a:latest"),
        ("oci://user:secret@ghcr.io/x:v1", "oci://ghcr.io/x:v1"),
        ("oci://ghcr.io/x:v1?a=b#c", "oci://ghcr.io/x:v1"),
        // Files, taken literally.
        ("file:///opt/a.wasm", "file:///opt/a.wasm"),
        ("file://a.wasm", "file://a.wasm"),
        ("file:/a.wasm", "file:///a.wasm"),
        ("file:a.wasm", "file://a.wasm"),
        ("FILE:///a.wasm", "file:///a.wasm"),
        ("file:///opt/%61.wasm", "file:///opt/%61.wasm"),
        ("file:///opt/a b#c?d.wasm", "file:///opt/a b#c?d.wasm"),
        // HTTP.
        ("http://test", "http://test/"),
        ("HTTP://h/a?x=1#f", "http://h/a?x=1"),
        ("https://h:8443/a%20b.wasm", "https://h:8443/a%20b.wasm"),
        ("https://h/a b.wasm?q=%zz", "https://h/a%20b.wasm?q=%zz"),
        ("http://[::1]:80/a", "http://[::1]/a"),
        ("https://u:p@h/a", "https://[redacted]@h/a"),
    ];
    for (text, expected) in rows {
        assert_eq!(parse(text).to_string(), expected, "`{text}`");
    }
}

/// Text, message, hint.
type Refusal = (&'static str, &'static str, Option<&'static str>);

fn check_refusals(rows: &[Refusal]) {
    for (text, message, hint) in rows {
        let error = error(text);
        assert_eq!(error.to_string(), *message, "`{text}`");
        assert_eq!(error.hint().as_deref(), *hint, "`{text}`");
    }
}

#[test]
fn refused_urls_say_what_is_wrong_and_how_to_mend_it() {
    check_refusals(&[
        ("", "the URL is empty", Some("for example `oci://ghcr.io/owner/plugin:v1`")),
        (" oci://h/a", "the URL begins or ends with white space", None),
        ("oci://h/a\n", "the URL begins or ends with white space", None),
        ("http://h/\u{1}", "the URL contains the character `\\u{1}`", None),
        (
            "ftp://test.com/test",
            "unsupported scheme `ftp`",
            Some("use `oci://`, `https://`, `http://` or `file://`"),
        ),
        (
            "fake://example.com",
            "unsupported scheme `fake`",
            Some("use `oci://`, `https://`, `http://` or `file://`"),
        ),
        (
            "img:latest",
            "unsupported scheme `img`",
            Some("write `oci://img:latest` if this is an image"),
        ),
        (
            "localhost:5000",
            "unsupported scheme `localhost`",
            Some("write `oci://localhost:5000` if this is an image"),
        ),
        ("http:/h/a", "the scheme `http:` must be followed by `//`", Some("write `http://`")),
        ("oci:img", "the scheme `oci:` must be followed by `//`", Some("write `oci://`")),
        (
            "/abs/path.wasm",
            "`/abs/path.wasm` is a path, not a URL",
            Some("write `file:///abs/path.wasm`"),
        ),
        ("./rel.wasm", "`./rel.wasm` is a path, not a URL", Some("write `file://./rel.wasm`")),
        (
            "file://",
            "the `file` URL names no file",
            Some("for example `file:///opt/filters/plugin.wasm`"),
        ),
        ("http://", "the `http` URL has no host", None),
        ("https:///a.wasm", "the `https` URL has no host", None),
        ("http://:80/a", "the `http` URL has no host", None),
        ("http://u:p@/a", "the `http` URL has no host", None),
        (
            "http://h/%zz",
            "the URL contains a `%` that is not followed by two hexadecimal digits",
            Some("write `%25` for a percent sign"),
        ),
        (
            "http://h/%4",
            "the URL contains a `%` that is not followed by two hexadecimal digits",
            Some("write `%25` for a percent sign"),
        ),
        ("http://h\\evil/a", "the URL contains the character `\\\\`", None),
        ("http://h:99999/a", "invalid `http` URL", None),
        ("http://[::1/a", "invalid `http` URL", None),
    ]);
}

#[test]
fn refused_images_say_what_is_wrong_and_how_to_mend_it() {
    check_refusals(&[
        (
            "oci://",
            "the image reference names no repository",
            Some("for example `oci://ghcr.io/owner/plugin:v1`"),
        ),
        (
            "oci://ghcr.io/",
            "the image reference names no repository",
            Some("for example `oci://ghcr.io/owner/plugin:v1`"),
        ),
        ("oci:///abs/path", "invalid registry ``", Some("write `host` or `host:port`")),
        ("oci://h:0/a", "invalid registry `h:0`", Some("write `host` or `host:port`")),
        ("oci://h:65536/a", "invalid registry `h:65536`", Some("write `host` or `host:port`")),
        ("oci://[::zz]/a", "invalid registry `[::zz]`", Some("write `host` or `host:port`")),
        ("oci://[::1]x/a", "invalid registry `[::1]x`", Some("write `host` or `host:port`")),
        ("oci://gh..io/a", "invalid registry `gh..io`", Some("write `host` or `host:port`")),
        (
            "oci://ghcr.io/X/y",
            "the repository `X/y` contains the character `X`",
            Some("repositories are lower case, write `x/y`"),
        ),
        ("oci://h.io/a%61", "the repository `a%61` contains the character `%`", None),
        ("oci://h.io/a//b", "the repository `a//b` contains the segment ``", None),
        ("oci://h.io/a/../b", "the repository `a/../b` contains the segment `..`", None),
        ("oci://h.io/a:", "invalid tag ``", None),
        ("oci://h.io/a:.v1", "invalid tag `.v1`", None),
        ("oci://h.io/a:v+1", "invalid tag `v+1`", None),
        (
            "oci://h.io/a@sha256:01",
            "invalid image digest: a sha256 has 64 hexadecimal digits, this one has 2 characters",
            Some("a digest is `@sha256:` and 64 lower-case hexadecimal digits"),
        ),
        (
            "oci://h.io/a@latest",
            "the image digest names no algorithm",
            Some("a digest is `@sha256:` and 64 lower-case hexadecimal digits"),
        ),
        (
            "#%blah$#@",
            "the image reference names no repository",
            Some("for example `oci://ghcr.io/owner/plugin:v1`"),
        ),
    ]);
}

#[test]
fn parts_of_an_image_reference_are_told_apart() {
    let ModuleUrl::Oci(reference) = parse(&format!("reg.io:5000/a/b:v1@sha256:{HEX}")) else {
        panic!("not an image");
    };
    assert_eq!(reference.registry, "reg.io:5000");
    assert_eq!(reference.repository, "a/b");
    assert_eq!(reference.tag.as_deref(), Some("v1"));
    assert_eq!(reference.digest.as_ref().map(Digest::hex), Some(HEX));

    let ModuleUrl::Oci(reference) = parse(&format!("oci://img@sha256:{HEX}")) else {
        panic!("not an image");
    };
    assert_eq!((reference.registry.as_str(), reference.tag), (DOCKER_HUB, None));
    assert_eq!(reference.repository, "library/img");
}

#[test]
fn canonical_text_parses_to_the_same_reference() {
    for text in ["test", "o/test:v1", "localhost:5000/a", "[::1]:5000/a", "oci://docker.io/x"] {
        let url = parse(text);
        assert_eq!(parse(&url.to_string()), url, "`{text}`");
    }
}

#[test]
fn lengths_are_bounded() {
    assert!(ModuleUrl::parse(&format!("oci://h.io/{}", "a".repeat(255))).is_ok());
    assert_eq!(
        error(&format!("oci://h.io/{}", "a".repeat(256))),
        ModuleUrlError::Image(ImageReferenceError::RepositoryLength { length: 256 })
    );
    assert!(ModuleUrl::parse(&format!("oci://h.io/a:{}", "t".repeat(128))).is_ok());
    assert!(ModuleUrl::parse(&format!("oci://h.io/a:{}", "t".repeat(129))).is_err());
}

#[test]
fn user_info_is_sent_but_never_shown() {
    let url = parse("https://user:hunter2@h/a");
    let ModuleUrl::Http(inner) = &url else { panic!("not HTTP") };
    assert_eq!(inner.password(), Some("hunter2"));
    assert!(!format!("{url} {url:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&url).unwrap().contains("hunter2"));
    for text in [
        "http://user:hunter2@/a",
        "http://user:hunter2@h:99999/a",
        "ftp://user:hunter2@h/a",
        "user:hunter2@h/a",
        "oci://user:hunter2@img",
        "oci://user:hunter2@img:v1",
        "oci://user:hunter2@ghcr.io/A",
    ] {
        let error = error(text);
        let shown = format!("{error} {error:?} {:?} {}", error.hint(), redact_user_info(text));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn redaction_leaves_other_urls_alone() {
    let digest = format!("img@sha256:{HEX}");
    for text in ["oci://h/a", "http://h/a@b", "http://h?u=a@b", &digest, "", "//", "é@"] {
        let redacted = redact_user_info(text);
        assert!(redacted == text || text == "é@", "{redacted}");
    }
}

#[test]
fn schemes_are_lower_case() {
    for (text, scheme) in
        [("FILE:/a", "file"), ("HTTP://h", "http"), ("https://h", "https"), ("img", "oci")]
    {
        assert_eq!(parse(text).scheme(), scheme);
    }
}
