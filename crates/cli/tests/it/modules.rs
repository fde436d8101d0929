//! The verbs for modules and images: what they print, what they do, and how they fail.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use wasmplug_testkit::{
    Image, Registry, RegistryThread, Upstream, UpstreamThread, registry::sha256,
};

use crate::process::{Ended, Running, prebuilt, run_to_end, run_with_programs};

/// A folder of a user who is logged in to a private registry.
struct Desk {
    folder: TempDir,
    registry: RegistryThread,
}

// === impl Desk ===

impl Desk {
    fn new() -> Self {
        let registry = Registry::builder().writable().basic_auth("user", "hunter2");
        let registry = RegistryThread::start(registry).unwrap();
        let desk = Self { folder: tempfile::tempdir().unwrap(), registry };
        desk.log_in(r#""username":"user","password":"hunter2""#);
        std::fs::copy(prebuilt("tag-headers-rust"), desk.path().join("tag.wasm")).unwrap();
        desk
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn log_in(&self, entry: &str) {
        let config = format!(r#"{{"auths":{{"{}":{{{entry}}}}}}}"#, self.registry.addr());
        self.configure(&config);
    }

    fn configure(&self, config: &str) {
        std::fs::create_dir_all(self.path().join(".docker")).unwrap();
        std::fs::write(self.path().join(".docker/config.json"), config).unwrap();
    }

    fn url(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.registry.addr())
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.shown(run_to_end(self.path(), arguments))
    }

    /// The run must be a success; what it printed on standard output.
    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.status, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    }

    /// The run must end with 1; what it said.
    #[track_caller]
    fn bad(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.status, Some(1), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        ended.stderr.trim_end().to_owned()
    }

    /// With names in place of what differs from run to run.
    fn shown(&self, mut ended: Ended) -> Ended {
        for text in [&mut ended.stdout, &mut ended.stderr] {
            assert!(!text.contains("hunter2"), "{text}");
            *text = text.replace(&self.registry.addr().to_string(), "HOST");
        }
        ended
    }

    /// A key pair, `NAME.pem` and `NAME.pub`; false if OpenSSL is not installed.
    #[expect(clippy::print_stdout, reason = "whoever counts skipped tests reads stdout")]
    fn make_key(&self, name: &str) -> bool {
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(self.path()).output();
            output.is_ok_and(|output| output.status.success())
        };
        let (private, public) = (format!("{name}.pem"), format!("{name}.pub"));
        let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private])
            && openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
        if !made {
            println!("SKIPPED: needs `openssl`");
        }
        made
    }
}

#[test]
fn push_prints_the_resource_that_runs_what_was_pushed() {
    let desk = Desk::new();
    for (format, name) in [("compat", "one"), ("artifact", "two")] {
        let url = desk.url(&format!("team/{name}:v1"));
        let printed = desk.good(&["push", "tag.wasm", &url, "--format", format]);
        let digest = desk.registry.tag(&format!("team/{name}:v1")).unwrap();
        let hex = digest.trim_start_matches("sha256:");
        let expected = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: {name}\n\
             spec:\n  url: oci://HOST/team/{name}:v1\n  sha256: \"{hex}\"\n"
        );
        assert_eq!(printed, expected);
        // It is a valid resource.
        let resource = printed.replace("HOST", &desk.registry.addr().to_string());
        std::fs::write(desk.path().join("plugin.yaml"), resource).unwrap();
        assert_eq!(desk.good(&["check", "-f", "plugin.yaml"]), "1 resource is valid\n");
        // And the module comes back under that digest.
        desk.good(&["pull", &url, "--sha256", hex, "--to", "back.wasm"]);
        let back = std::fs::read(desk.path().join("back.wasm")).unwrap();
        assert!(back == std::fs::read(desk.path().join("tag.wasm")).unwrap(), "{format}");
    }
}

#[test]
fn push_refuses_what_is_no_module_and_what_names_no_tag() {
    let desk = Desk::new();
    std::fs::write(desk.path().join("text.wasm"), "text").unwrap();
    let told = desk.bad(&["push", "text.wasm", &desk.url("a:v1")]);
    assert!(told.starts_with("error: `text.wasm` cannot be pushed\n  caused by: "), "{told}");
    let pinned = desk.url(&format!("a@{}", sha256(b"")));
    let told = desk.bad(&["push", "tag.wasm", &pinned]);
    assert!(told.contains("hint: the digest comes of what is pushed; give a tag"), "{told}");
    let told = desk.bad(&["push", "tag.wasm", "https://example.com/a.wasm"]);
    assert!(told.contains("is not an image in a registry"), "{told}");
    let told = desk.bad(&["push", "tag.wasm", &desk.url("a:v1"), "--sign", "tag.wasm"]);
    assert!(told.contains("stream did not contain valid UTF-8"), "{told}");
    assert_eq!(desk.registry.tag("a:v1"), None);
}

#[test]
fn pull_prints_digests_and_tells_why_it_cannot() {
    let desk = Desk::new();
    let module = std::fs::read(desk.path().join("tag.wasm")).unwrap();
    let manifest = desk.registry.push("tag:v1", Image::compat(&module));
    let printed = desk.good(&["pull", &desk.url("tag:v1")]);
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let size = module.len() as f64 / 1024.0;
    let expected = format!(
        "oci://HOST/tag:v1\n  module    {}, {size:.1} KiB\n  manifest  {manifest}\n",
        sha256(&module)
    );
    assert_eq!(printed, expected);
    let json: serde_json::Value =
        serde_json::from_str(&desk.good(&["pull", &desk.url("tag:v1"), "-o", "json"])).unwrap();
    assert_eq!((&json["digest"], &json["bytes"]), (&sha256(&module).into(), &module.len().into()));
    assert_eq!((&json["manifestDigest"], &json["indexDigest"]), (&manifest.into(), &().into()));

    let told = desk.bad(&["pull", &desk.url("tag:v2")]);
    assert_eq!(
        told,
        "error: `oci://HOST/tag:v2` does not exist\n\nhint: the repository has the tags `v1`"
    );
    let told = desk.bad(&["pull", &desk.url("tag:v1"), "--sha256", "abc"]);
    assert!(
        told.starts_with("error: `--sha256` is not a digest\n  caused by: a sha256 has 64"),
        "{told}"
    );
    let told = desk.bad(&["pull", "no/such.wasm"]);
    assert!(told.contains("`index.docker.io`") || told.contains("index.docker.io"), "{told}");
    let told = desk.bad(&["pull", "./no/such.wasm"]);
    assert!(told.starts_with("error: `./no/such.wasm` is neither a file nor the URL"), "{told}");
}

#[test]
fn credentials_are_those_of_the_user_and_their_absence_is_explained() {
    let desk = Desk::new();
    let module = std::fs::read(desk.path().join("tag.wasm")).unwrap();
    desk.registry.push("tag:v1", Image::compat(&module));
    let url = desk.url("tag:v1");
    desk.configure("{}");
    let told = desk.bad(&["pull", &url]);
    let expected = "error: no access to `oci://HOST/tag:v1`: the registry answered 401\n\n\
                    hint: log in with `docker login` or `podman login`";
    assert_eq!(told, expected);
    desk.configure("{");
    let told = desk.bad(&["pull", &url]);
    assert!(told.contains("is not a Docker configuration\n  caused by: at line 1"), "{told}");
    desk.log_in(r#""username":"user","password":"hunter3""#);
    assert!(desk.bad(&["pull", &url]).contains("the credentials are wrong"));
    let told = desk.bad(&["pull", &url, "--proxy", "https://user:hunter2@proxy.example"]);
    let form = "`http://[USER:PASSWORD@]HOST:PORT`";
    assert_eq!(told, format!("error: the proxy is not of the form {form}"));
    // A file that is named wins.
    let other =
        format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpodW50ZXIy"}}}}}}"#, desk.registry.addr());
    std::fs::write(desk.path().join("other.json"), other).unwrap();
    desk.good(&["pull", &url, "--registry-config", "other.json"]);
}

#[test]
fn credential_helpers_are_asked_for_commands() {
    let desk = Desk::new();
    let module = std::fs::read(desk.path().join("tag.wasm")).unwrap();
    desk.registry.push("tag:v1", Image::compat(&module));
    let (url, host) = (desk.url("tag:v1"), desk.registry.addr());
    let folder = desk.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let helper = folder.join("docker-credential-test");
    let install = |script: &str| {
        std::fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let pull = || desk.shown(run_with_programs(desk.path(), &["pull", &url]));
    for config in [
        format!(r#"{{"auths":{{"{host}":{{}}}},"credsStore":"test"}}"#),
        format!(r#"{{"credHelpers":{{"{host}":"test"}},"credsStore":"other"}}"#),
    ] {
        desk.configure(&config);
        // It answers only to the registry's name on standard input.
        install(&format!(
            r#"test "$1" = get && test "$(cat)" = '{host}' && echo '{{"Username":"user","Secret":"hunter2"}}'"#
        ));
        let ended = pull();
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        install("echo credentials not found; exit 1");
        assert!(pull().stderr.contains("the registry answered 401"));
        install("echo nonsense");
        assert!(pull().stderr.contains("answered with something else than credentials"));
    }
    desk.configure(r#"{"credsStore":"../evil"}"#);
    assert!(pull().stderr.contains("`../evil`, which is no name"));
    desk.configure(r#"{"credsStore":"missing"}"#);
    assert!(pull().stderr.contains("cannot run the credential helper `docker-credential-missing`"));
}

#[test]
fn inspect_tells_who_can_load_an_image() {
    let desk = Desk::new();
    let module = std::fs::read(desk.path().join("tag.wasm")).unwrap();
    desk.registry.push("compat:v1", Image::compat(&module));
    desk.registry.push("single:v1", Image::single_layer("application/wasm", &module));
    desk.registry.push("empty:v1", Image::compat(b"\0asm\x01\0\0\0"));
    desk.registry.push("text:v1", Image::single_layer("text/plain", b"text"));
    let table = |name: &str| {
        let printed = desk.good(&["inspect", &desk.url(name)]);
        printed.split("can be loaded by\n").nth(1).unwrap().to_owned()
    };
    let no_image = "no: it loads files and http downloads, not images";
    assert_eq!(
        table("compat:v1"),
        format!(
            "  istio          yes\n  envoy-gateway  yes\n  higress        yes\n  \
             envoy          {no_image}\n  wasmplug       yes\n"
        )
    );
    let one_layer = "no: its last layer is not `application/vnd.oci.image.layer.v1.tar+gzip`, and \
                     an artifact must have two layers, not 1";
    assert_eq!(
        table("single:v1"),
        format!(
            "  istio          {one_layer}\n  envoy-gateway  {one_layer}\n  higress        \
             {one_layer}\n  envoy          {no_image}\n  wasmplug       yes\n"
        )
    );
    let empty = table("empty:v1");
    assert_eq!(empty.matches("no: it declares no Proxy-Wasm ABI version").count(), 3, "{empty}");
    assert!(empty.contains("wasmplug       no: "), "{empty}");
    let text = table("text:v1");
    assert!(text.contains("wasmplug       no: no layer of the image can hold a module"), "{text}");
    assert!(desk.bad(&["inspect", &desk.url("gone:v1")]).contains("does not exist"));
}

#[test]
fn inspect_describes_a_module_as_text_and_as_json() {
    let desk = Desk::new();
    let printed = desk.good(&["inspect", "tag.wasm"]);
    for line in [
        "  abi        0.2.1",
        "  imports    env: ",
        "proxy_log",
        "proxy_on_request_headers",
        "  envoy          yes",
    ] {
        assert!(printed.contains(line), "no `{line}` in:\n{printed}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&desk.good(&["inspect", "tag.wasm", "-o", "json"])).unwrap();
    assert_eq!(json["module"]["abiVersions"], serde_json::json!(["0.2.1"]));
    assert_eq!((&json["image"], json["loadable"].as_array().unwrap().len()), (&().into(), 5));
    std::fs::write(desk.path().join("cut.wasm"), b"\0asm\x01\0\0\0\x02\xff").unwrap();
    assert!(desk.bad(&["inspect", "cut.wasm"]).contains("it is not a well-formed module"));
}

#[test]
fn what_is_signed_verifies_with_its_key_and_with_no_other() {
    let desk = Desk::new();
    if !desk.make_key("one") || !desk.make_key("other") {
        return;
    }
    let url = desk.url("tag:v1");
    let public = std::fs::read_to_string(desk.path().join("one.pub")).unwrap();
    let pushed = desk.good(&["push", "tag.wasm", &url, "--sign", "one.pem"]);
    let indented = public.trim_end().replace('\n', "\n    ");
    let end = format!("  verificationKey: |\n    {indented}\n");
    assert!(pushed.ends_with(&end), "{pushed}");
    let verified = desk.good(&["verify", &url, "--key", "one.pub"]);
    let digest = desk.registry.tag("tag:v1").unwrap();
    let tag = format!("{}.sig", digest.replace(':', "-"));
    let start = format!("oci://HOST/tag:v1\n  {digest}\n  signed in HOST/tag:{tag}\n");
    assert!(verified.starts_with(&start), "{verified}");
    let told = desk.bad(&["verify", &url, "--key", "other.pub"]);
    let expected = format!(
        "error: `oci://HOST/tag:v1` must be signed\n  caused by: it has no signature that counts: \
         `HOST/tag:{tag}`: none of the keys made it, or what was signed has changed since"
    );
    assert_eq!(told, expected);
    // A second signature by the verb of its own.
    assert_eq!(
        desk.good(&["sign", &url, "--key", "other.pem"]).trim_end(),
        std::fs::read_to_string(desk.path().join("other.pub")).unwrap().trim_end()
    );
    desk.good(&["verify", &url, "--key", "other.pub"]);
    desk.good(&["verify", &url, "--key", "one.pub"]);
    desk.good(&["pull", &url, "--key", "one.pub"]);

    // A file, and one byte more.
    let json = desk.good(&["sign", "tag.wasm", "--key", "one.pem", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["place"], &json["verificationKey"]),
        (&"tag.wasm.sig".into(), &public.into())
    );
    desk.good(&["verify", "tag.wasm", "--key", "one.pub"]);
    let mut altered = std::fs::read(desk.path().join("tag.wasm")).unwrap();
    altered.extend(*b"\0\x02\x01a");
    std::fs::write(desk.path().join("tag.wasm"), altered).unwrap();
    assert!(desk.bad(&["verify", "tag.wasm", "--key", "one.pub"]).contains("none of the keys"));
    assert!(desk.bad(&["sign", "tag.wasm", "--key", "one.pub"]).contains("no `PRIVATE KEY`"));
    assert!(desk.bad(&["verify", "tag.wasm", "--key", "one.pem"]).contains("a private key"));
}

#[test]
fn a_policy_that_cannot_be_used_is_refused_before_anything_is_fetched() {
    let desk = Desk::new();
    let verify = |policy: &str| {
        std::fs::write(desk.path().join("policy.json"), policy).unwrap();
        desk.bad(&["verify", &desk.url("tag:v1"), "--require-signed", "policy.json"])
    };
    let told = verify("{");
    assert!(told.starts_with("error: cannot use the signature policy `policy.json`\n"), "{told}");
    assert!(told.contains("hint: for example `{\"rules\": "), "{told}");
    let told = verify(r#"{"rules":[{"prefix":"r.example/","keyFiles":["gone.pub"]}]}"#);
    assert!(told.contains("cannot read the key `gone.pub` of the rule for `r.example/`"), "{told}");
    let told = verify(r#"{"rules":[]}"#);
    assert!(told.contains("signatures are required, and the policy names no key for it"), "{told}");
    assert!(desk.registry.log().is_empty());
    let ended = desk.run(&["verify", "tag.wasm"]);
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
}

#[test]
fn saved_images_are_loaded_elsewhere_and_served_without_a_registry() {
    let desk = Desk::new();
    if !desk.make_key("one") {
        return;
    }
    let url = desk.url("tag:v1");
    desk.good(&["push", "tag.wasm", &url, "--sign", "one.pem"]);
    let saved = desk.good(&["save", "--to", "images.tar", &url]);
    let digest = desk.registry.tag("tag:v1").unwrap();
    assert_eq!(saved, format!("oci://HOST/tag:v1\n  {digest}, 1 signature\n"));
    let loaded = desk.good(&["load", "images.tar", "--cache-dir", "elsewhere"]);
    assert_eq!(loaded, saved);
    let json = desk.good(&["load", "images.tar", "--cache-dir", "elsewhere", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["digest"], &json[0]["signatures"]), (&digest.into(), &1.into()));
    let listed = desk.good(&["cache", "ls", "--cache-dir", "elsewhere"]);
    let module = sha256(&std::fs::read(desk.path().join("tag.wasm")).unwrap());
    assert!(listed.starts_with(&module) && listed.contains("\n  oci://HOST/tag:v1\n"), "{listed}");
    let told = desk.bad(&["save", "--to", "none.tar", &desk.url("gone:v1")]);
    assert!(told.contains("`oci://HOST/gone:v1` does not exist"), "{told}");
    assert!(!desk.path().join("none.tar").exists());
    let told = desk.bad(&["load", "tag.wasm"]);
    assert!(told.starts_with("error: cannot load `tag.wasm`\n"), "{told}");

    // The registry is gone, and the key still has to fit.
    let resource = |key: &str| {
        let key = std::fs::read_to_string(desk.path().join(key)).unwrap();
        let key = key.trim_end().replace('\n', "\n    ");
        format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: tag}}\n\
             spec:\n  url: {url}\n  verificationKey: |\n    {key}\n  pluginConfig: {{tag: here}}\n"
        )
    };
    assert!(desk.make_key("other"));
    let resources = [resource("one.pub"), resource("other.pub")];
    let Desk { folder, registry } = desk;
    registry.stop();
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    for (resource, status) in resources.iter().zip([200, 403]) {
        std::fs::write(folder.path().join("plugin.yaml"), resource).unwrap();
        let arguments = ["-f", "plugin.yaml", "--cache-dir", "elsewhere"];
        let proxy = Running::start(folder.path(), &upstream, &arguments);
        assert_eq!(proxy.get("/").status, status);
    }
}

#[test]
fn the_cache_is_listed_and_emptied() {
    let desk = Desk::new();
    let module = std::fs::read(desk.path().join("tag.wasm")).unwrap();
    desk.registry.push("tag:v1", Image::compat(&module));
    assert_eq!(desk.good(&["cache", "ls"]), "");
    desk.good(&["pull", &desk.url("tag:v1")]);
    let digest = sha256(&module);
    let json: serde_json::Value =
        serde_json::from_str(&desk.good(&["cache", "ls", "-o", "json"])).unwrap();
    assert_eq!((&json[0]["digest"], &json[0]["inUse"]), (&digest.clone().into(), &false.into()));
    assert_eq!(desk.good(&["cache", "gc"]), "0 modules removed, 0 B\n");
    assert!(desk.bad(&["cache", "rm", "abc"]).contains("is too short"));
    assert!(desk.bad(&["cache", "rm", "abcdef"]).contains("no module in the cache"));
    let start = &digest[..16];
    assert_eq!(desk.good(&["cache", "rm", start]).trim_end(), digest);
    assert_eq!(desk.good(&["cache", "ls"]), "");
    desk.good(&["pull", &desk.url("tag:v1")]);
    assert!(desk.good(&["cache", "gc", "--cache-max-size", "0"]).starts_with("1 module removed"));
}
