//! The user's own credentials of registries, for commands that a person types; resources never
//! get them.
//!
//! Source: Docker, `config.json` and the protocol of credential helpers; Podman, `auth.json`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wasmplug_api::ImageReference;
use wasmplug_module::RegistryCredentials;

use crate::environment::Environment;

/// What Docker calls its own registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: Map<String, Value>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Credentials for the registry of an image; `None` if the user has not logged in to it.
///
/// # Errors
/// A configuration that cannot be read, or a helper that does not answer as it should.
pub(crate) fn credentials(
    given: Option<&Path>,
    reference: &ImageReference,
    environment: &Environment,
) -> anyhow::Result<Option<RegistryCredentials>> {
    let Some(path) = given.map(Path::to_owned).or_else(|| default_path(environment)) else {
        return Ok(None);
    };
    let text = fs_err::read(&path)?;
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| anyhow::anyhow!("at line {}, column {}", error.line(), error.column()))
        .with_context(|| format!("`{}` is not a Docker configuration", path.display()))?;
    let registry = &reference.registry;
    let is_hub = registry == wasmplug_api::module_url::DOCKER_HUB;
    let key = if is_hub { DOCKER_HUB_KEY } else { registry.as_str() };
    let names = [registry.as_str(), key, if is_hub { "docker.io" } else { key }];
    let helper = names.iter().find_map(|name| config.helpers.get(*name)).or(config.store.as_ref());
    let mut auths = Map::new();
    if let Some(entry) = helper.map(|helper| ask(helper, key)).transpose()?.flatten() {
        auths.insert(key.to_owned(), entry);
    }
    // An entry without content says that a helper has it.
    let is_empty = |entry: &Value| {
        let fields = ["auth", "username", "identitytoken", "registrytoken"];
        fields.iter().all(|name| entry.get(name).and_then(Value::as_str).is_none_or(str::is_empty))
    };
    auths.extend(config.auths.into_iter().filter(|(_, entry)| !is_empty(entry)));
    if auths.is_empty() {
        return Ok(None);
    }
    let credentials =
        RegistryCredentials::from_docker_config(json!({ "auths": auths }).to_string().as_bytes());
    credentials.map(Some).with_context(|| format!("cannot use `{}`", path.display()))
}

/// The first of the places where Docker and Podman keep it that is there.
fn default_path(environment: &Environment) -> Option<PathBuf> {
    let variable =
        |name: &str| environment.variables.get(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let places = [
        variable("DOCKER_CONFIG").map(|it| it.join("config.json")),
        variable("REGISTRY_AUTH_FILE"),
        variable("HOME").map(|it| it.join(".docker/config.json")),
        variable("XDG_RUNTIME_DIR").map(|it| it.join("containers/auth.json")),
    ];
    places.into_iter().flatten().find(|path| path.is_file())
}

/// Asks `docker-credential-NAME`; `None` if it has nothing for this registry.
fn ask(helper: &str, registry: &str) -> anyhow::Result<Option<Value>> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if helper.is_empty() || !helper.bytes().all(is_name) {
        bail!("the Docker configuration names the credential helper `{helper}`, which is no name");
    }
    let program = format!("docker-credential-{helper}");
    let failed = || format!("cannot run the credential helper `{program}`");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(registry.as_bytes()) {
            // One that does not even listen has nothing; its status says so.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
    }
    let output = child.wait_with_output().with_context(failed)?;
    if !output.status.success() {
        // Helpers say in this way that they know nothing about a registry.
        return Ok(None);
    }
    let Ok(Answer { username, secret }) = serde_json::from_slice(&output.stdout) else {
        bail!("the credential helper `{program}` answered with something else than credentials");
    };
    Ok(Some(if username == TOKEN_USER {
        json!({ "identitytoken": secret })
    } else {
        json!({ "username": username, "password": secret })
    }))
}
