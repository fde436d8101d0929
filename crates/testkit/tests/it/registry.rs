use serde_json::Value;
use wasmplug_testkit::{
    Image, RawClient, Registry, RegistryThread, Response,
    registry::{Fault, RegistryBuilder, media_type, sha256},
};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn start(registry: RegistryBuilder) -> RegistryThread {
    RegistryThread::start(registry).unwrap()
}

fn get(registry: &Registry, path: &str) -> Response {
    RawClient::connect(registry.addr()).unwrap().get(path).unwrap()
}

fn get_with(registry: &Registry, path: &str, authorization: &str) -> Response {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: h\r\nauthorization: {authorization}\r\n\r\n");
    RawClient::connect(registry.addr()).unwrap().exchange(request).unwrap()
}

fn demo() -> RegistryBuilder {
    Registry::builder().image("a/demo:v1", Image::compat(MODULE))
}

#[test]
fn manifests_and_blobs_are_served_by_tag_and_digest() {
    let registry = start(demo());
    assert_eq!(get(&registry, "/v2/").status, 200);
    let by_tag = get(&registry, "/v2/a/demo/manifests/v1");
    assert_eq!(by_tag.header("content-type"), Some(media_type::OCI_MANIFEST));
    let digest = by_tag.header("docker-content-digest").unwrap().to_owned();
    assert_eq!(digest, sha256(&by_tag.body));
    assert_eq!(get(&registry, &format!("/v2/a/demo/manifests/{digest}")).body, by_tag.body);
    let manifest = by_tag.json().unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = get(&registry, &format!("/v2/a/demo/blobs/{layer}"));
    assert_eq!(sha256(&blob.body), layer);
    assert_eq!(blob.body.len(), manifest["layers"][0]["size"]);
    assert_eq!(registry.blob_downloads(), 1);
}

#[test]
fn what_is_not_there_is_404_with_the_code_of_the_specification() {
    let registry = start(demo());
    for (path, code) in [
        ("/v2/other/manifests/v1", "NAME_UNKNOWN"),
        ("/v2/a/demo/manifests/v2", "MANIFEST_UNKNOWN"),
        ("/v2/a/demo/blobs/sha256:00", "BLOB_UNKNOWN"),
    ] {
        let answer = get(&registry, path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json().unwrap()["errors"][0]["code"], code, "{path}");
    }
    let mut client = RawClient::connect(registry.addr()).unwrap();
    let put = "PUT /v2/a/demo/manifests/v1 HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(client.exchange(put).unwrap().status, 405);
}

#[test]
fn head_has_the_headers_of_get() {
    let registry = start(demo());
    let mut client = RawClient::connect(registry.addr()).unwrap();
    let head = client.exchange("HEAD /v2/a/demo/manifests/v1 HTTP/1.1\r\n\r\n").unwrap();
    let full = client.get("/v2/a/demo/manifests/v1").unwrap();
    assert_eq!(head.headers, full.headers);
    assert!(head.body.is_empty());
}

#[test]
fn tags_are_listed_in_pages() {
    let registry = start(demo().image("a/demo:v2", Image::docker(MODULE)));
    let page = get(&registry, "/v2/a/demo/tags/list?n=1");
    assert_eq!(page.json().unwrap()["tags"], serde_json::json!(["v1"]));
    assert_eq!(page.header("link"), Some("</v2/a/demo/tags/list?n=1&last=v1>; rel=\"next\""));
    let rest = get(&registry, "/v2/a/demo/tags/list?n=1&last=v1");
    assert_eq!(rest.json().unwrap()["tags"], serde_json::json!(["v2"]));
    assert_eq!(rest.header("link"), None);
}

#[test]
fn a_tag_can_move_and_go_while_it_runs() {
    let registry = start(demo());
    let moved = registry.push("a/demo:v1", Image::artifact(MODULE));
    let answer = get(&registry, "/v2/a/demo/manifests/v1");
    assert_eq!(answer.header("docker-content-digest"), Some(moved.as_str()));
    assert!(registry.remove_tag("a/demo:v1"));
    assert!(!registry.remove_tag("a/demo:v1"));
    assert_eq!(get(&registry, "/v2/a/demo/manifests/v1").status, 404);
}

#[test]
fn basic_authentication_wants_its_user() {
    let registry = start(demo().basic_auth("user", "pass"));
    let path = "/v2/a/demo/manifests/v1";
    let refused = get(&registry, path);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"testkit\""));
    assert_eq!(get_with(&registry, path, "Basic dXNlcjp3cm9uZw==").status, 401);
    assert_eq!(get_with(&registry, path, "Basic dXNlcjpwYXNz").status, 200);
}

#[test]
fn bearer_authentication_wants_a_token_that_wants_its_user() {
    let registry = start(demo().bearer_auth("user", "pass"));
    let path = "/v2/a/demo/manifests/v1";
    let challenge = get(&registry, path).header("www-authenticate").unwrap().to_owned();
    assert!(challenge.ends_with(",scope=\"repository:a/demo:pull\""), "{challenge}");
    assert_eq!(get(&registry, "/token").status, 401);
    let token = get_with(&registry, "/token", "Basic dXNlcjpwYXNz").json().unwrap();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    assert_eq!(get_with(&registry, path, &bearer).status, 200);
    assert_eq!(get_with(&registry, path, "Bearer other").status, 401);
    let open = start(demo().anonymous_bearer());
    assert_eq!(get(&open, "/token").status, 200);
}

#[test]
fn faults_hit_their_path_as_often_as_told() {
    let registry = start(demo().fault_times("/manifests/", Fault::Status(503), 1));
    let path = "/v2/a/demo/manifests/v1";
    assert_eq!(get(&registry, path).status, 503);
    let good = get(&registry, path);
    assert_eq!(good.status, 200);
    registry.fault(path, Fault::Corrupt);
    let corrupt = get(&registry, path);
    assert_eq!(corrupt.headers, good.headers);
    assert_ne!(corrupt.body, good.body);
    registry.clear_faults();
    registry.fault(path, Fault::Truncated);
    assert!(RawClient::connect(registry.addr()).unwrap().get(path).is_err());
    registry.clear_faults();
    assert_eq!(get(&registry, path).body, good.body);
}

#[test]
fn an_index_serves_its_children() {
    let child = Image::compat(MODULE);
    let digest = child.digest();
    let index = Image::index([("linux/amd64", child), ("attestation", Image::artifact(MODULE))]);
    let registry = start(Registry::builder().image("i", index));
    let answer = get(&registry, "/v2/i/manifests/latest").json().unwrap();
    assert_eq!(answer["manifests"][0]["digest"], Value::from(digest.as_str()));
    assert_eq!(answer["manifests"][1]["platform"]["os"], "unknown");
    assert_eq!(get(&registry, &format!("/v2/i/manifests/{digest}")).status, 200);
}

/// Sends a request with content.
fn send(registry: &Registry, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-type: {}\r\ncontent-length: {length}\r\n\r\n{body}",
        media_type::OCI_MANIFEST
    );
    RawClient::connect(registry.addr()).unwrap().exchange(request).unwrap()
}

#[test]
fn what_is_pushed_is_served_and_only_what_fits_together_is_taken() {
    let registry = start(Registry::builder().writable());
    let (blob, other) = (sha256(b"{}"), sha256(b"other"));
    let begun = send(&registry, "POST", "/v2/a/demo/blobs/uploads/", "");
    assert_eq!(begun.status, 202);
    let location = begun.header("location").unwrap().to_owned();
    let put = |digest: &str| send(&registry, "PUT", &format!("{location}?digest={digest}"), "{}");
    let manifest = |digest: &str| {
        format!(r#"{{"config":{{"digest":"{digest}"}},"layers":[{{"digest":"{digest}"}}]}}"#)
    };
    let path = "/v2/a/demo/manifests/v1";
    assert_eq!(put(&other).status, 400);
    assert_eq!(send(&registry, "PUT", path, &manifest(&blob)).status, 400);
    assert_eq!(put(&blob.replace(':', "%3A")).status, 201);
    assert_eq!(send(&registry, "PUT", path, &manifest(&other)).status, 400);
    assert_eq!(registry.tag("a/demo:v1"), None);
    assert_eq!(send(&registry, "PUT", path, &manifest(&blob)).status, 201);
    assert_eq!(registry.tag("a/demo:v1"), Some(sha256(manifest(&blob).as_bytes())));
    assert_eq!(get(&registry, path).text(), manifest(&blob));
    assert_eq!(send(&registry, "DELETE", path, "").status, 405);
}

#[test]
fn referrers_are_listed_if_the_registry_can() {
    let subject = Image::compat(MODULE).digest();
    let signature = format!(
        r#"{{"schemaVersion":2,"artifactType":"x/y","layers":[],"subject":{{"digest":"{subject}"}}}}"#
    );
    let image = Image::custom(media_type::OCI_MANIFEST, signature, []);
    let digest = image.digest();
    let builder = || demo().image("a/demo:sig", image.clone());
    let path = format!("/v2/a/demo/referrers/{subject}");
    let registry = start(builder().lists_referrers());
    let listed = get(&registry, &path).json().unwrap();
    assert_eq!((&listed["manifests"][0]["digest"]), &Value::from(digest));
    assert_eq!(listed["manifests"][0]["artifactType"], "x/y");
    let none = get(&registry, &format!("/v2/a/demo/referrers/{}", sha256(b"other")));
    assert_eq!(none.json().unwrap()["manifests"].as_array().unwrap().len(), 0);
    assert_eq!(get(&start(builder()), &path).status, 404);
}
