//! Images copied by skopeo into the CNCF registry: tools and servers that are not ours.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use wasmplug_api::Digest;
use wasmplug_module::{FetchError, ModuleRequest, RegistryCredentials};
use wasmplug_testkit::{
    Image,
    registry::{Layer, media_type, tar},
};

use crate::fixture::{Fixture, MODULE, request};

/// The bcrypt hash of `pass`.
const HTPASSWD: &str = "user:$2b$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6\n";

struct ForeignRegistry {
    process: Child,
    addr: String,
    directory: TempDir,
    skopeo: PathBuf,
}

impl ForeignRegistry {
    /// Starts it on a free port; `None`, and a line on stdout, if a tool is not installed.
    #[expect(clippy::print_stdout, reason = "whoever counts skipped tests reads stdout")]
    fn start(htpasswd: bool) -> Option<Self> {
        let (Some(registry), Some(skopeo)) = (find("docker-registry"), find("skopeo")) else {
            println!("SKIPPED: needs `docker-registry` and `skopeo`");
            return None;
        };
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs_err::write(path("htpasswd"), HTPASSWD).unwrap();
        let auth = if htpasswd {
            let path = path("htpasswd");
            format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", path.display())
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: 127.0.0.1:0 }}\n{auth}",
            path("data").display()
        );
        fs_err::write(path("config.yml"), config).unwrap();
        let mut process = Command::new(registry)
            .arg("serve")
            .arg(path("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let addr = log.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(['"', ' ']).next().unwrap_or_default().to_owned())
        });
        // The rest of the log is read and forgotten: a full pipe would stop the registry.
        std::thread::spawn(move || log.for_each(drop));
        Some(Self { process, addr: addr.unwrap(), directory, skopeo })
    }

    /// Copies an image into the registry as `demo:TAG`.
    fn copy(&self, image: &Image, tag: &str, arguments: &[&str]) {
        let layout = self.directory.path().join(tag);
        write_layout(&layout, image);
        let output = Command::new(&self.skopeo)
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args(["--dest-creds", "user:pass"])
            .args(arguments)
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{}/demo:{tag}", self.addr))
            // No credentials of whoever runs the test.
            .env("REGISTRY_AUTH_FILE", self.directory.path().join("auth.json"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{tag}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn url(&self, tag: &str) -> String {
        format!("oci://{}/demo:{tag}", self.addr)
    }
}

impl Drop for ForeignRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|it| it.is_file())
}

/// Source: OCI Image Layout Specification 1.1.
fn write_layout(directory: &Path, image: &Image) {
    let (media_type, manifest) = image.manifest();
    let blobs = directory.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    for blob in image.blobs().chain([manifest]) {
        fs_err::write(blobs.join(Digest::sha256_of(blob).hex()), blob).unwrap();
    }
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{media_type}","digest":"{}","size":{}}}]}}"#,
        image.digest(),
        manifest.len()
    );
    fs_err::write(directory.join("index.json"), index).unwrap();
    fs_err::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[tokio::test]
async fn images_copied_by_skopeo_are_read() {
    let Some(registry) = ForeignRegistry::start(false) else { return };
    let plain =
        || Image::oci([Layer::new(media_type::OCI_LAYER_TAR, tar(&[("plugin.wasm", MODULE)]))]);
    let rows: [(&str, Image, &[&str]); 5] = [
        ("compat", Image::compat(MODULE), &[]),
        ("docker", Image::compat(MODULE), &["--format", "v2s2"]),
        ("compressed", plain(), &["--dest-compress-format", "gzip"]),
        ("zstd", plain(), &["--dest-compress-format", "zstd"]),
        ("artifact", Image::artifact(MODULE), &["--preserve-digests"]),
    ];
    for (tag, image, arguments) in rows {
        registry.copy(&image, tag, arguments);
        let module = Fixture::new().get(&registry.url(tag)).await.unwrap();
        assert_eq!(module.bytes, MODULE, "{tag}");
        if arguments.is_empty() {
            assert_eq!(module.manifest_digest.unwrap().to_string(), image.digest(), "{tag}");
        }
    }
}

#[tokio::test]
async fn what_is_not_in_a_foreign_registry_is_told_with_its_tags() {
    let Some(registry) = ForeignRegistry::start(false) else { return };
    registry.copy(&Image::compat(MODULE), "v1", &[]);
    let error = Fixture::new().get(&registry.url("v2")).await.unwrap_err();
    assert!(matches!(&error, FetchError::NotFound { tags, .. } if tags == &["v1"]), "{error:?}");
}

#[tokio::test]
async fn a_foreign_registry_with_passwords_admits_the_right_one() {
    let Some(registry) = ForeignRegistry::start(true) else { return };
    registry.copy(&Image::compat(MODULE), "v1", &[]);
    let pull = async |password: &str| {
        let config = format!(
            r#"{{"auths":{{"{}":{{"username":"user","password":"{password}"}}}}}}"#,
            registry.addr
        );
        let credentials = RegistryCredentials::from_docker_config(config.as_bytes()).unwrap();
        let url = registry.url("v1");
        let request = ModuleRequest { credentials: Some(credentials), ..request(&url) };
        Fixture::new().store.get(&request).await
    };
    assert_eq!(pull("pass").await.unwrap().bytes, MODULE);
    let error = pull("wrong").await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { authenticated: true, .. }), "{error}");
}
