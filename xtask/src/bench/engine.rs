//! The proxies that are measured, and how each is told to do the same.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use fs_err as fs;
use serde_json::{Value, json};

use crate::process;
use crate::repository::Repository;
use crate::tools;

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    /// The product, built with the profile `dist`.
    Wasmplug,
    /// Another build of it, see `--before`.
    Before,
    /// Envoy with its V8, one VM for each plugin.
    Envoy,
    /// nginx without plugins: the floor.
    Nginx,
}

/// Where the programs and files are.
pub(super) struct Programs {
    wasmplug: PathBuf,
    before: Option<PathBuf>,
    envoy: PathBuf,
    nginx: PathBuf,
    module: PathBuf,
    /// Where configurations and logs are written.
    pub(super) work: PathBuf,
}

/// Where an engine listens and what is behind it.
pub(super) struct Ports {
    pub(super) listen: u16,
    pub(super) admin: u16,
    pub(super) upstream: u16,
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wasmplug => "wasmplug",
            Self::Before => "before",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    pub(super) fn runs_plugins(self) -> bool {
        self != Self::Nginx
    }
}

impl Programs {
    /// Finds the programs of these engines and builds ours.
    ///
    /// # Errors
    ///
    /// If one is missing; the text says how to get it.
    pub(super) fn find(
        repository: &Repository,
        engines: &[Engine],
        before: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let hint = "run `cargo xtask tools`";
        for program in ["wrk", "nginx", "taskset", "setpriv"] {
            ensure!(process::find(program).is_some(), "`{program}` is missing; {hint}");
        }
        let envoy = env::var_os("WASMPLUG_ENVOY")
            .map_or_else(|| repository.tools(tools::ENVOY_LINK), PathBuf::from);
        if engines.contains(&Engine::Envoy) {
            ensure!(envoy.exists(), "no Envoy at `{}`; {hint}", envoy.display());
        }
        if engines.contains(&Engine::Wasmplug) {
            process::run(
                Command::new("cargo")
                    .args(["build", "--profile", "dist", "--package", "wasmplug"])
                    .current_dir(repository.path("")),
            )?;
        }
        let work = repository.target("bench");
        fs::create_dir_all(&work)?;
        Ok(Self {
            wasmplug: repository.target("dist/wasmplug"),
            before: before.map(Path::to_owned),
            envoy,
            nginx: process::find("nginx").context("`nginx` is missing")?,
            module: repository.path("plugins/prebuilt/tag-headers-rust.wasm"),
            work,
        })
    }

    /// Writes the configuration of an engine and returns the command that runs it, in the
    /// foreground as one process.
    pub(super) fn command(
        &self,
        engine: Engine,
        plugins: usize,
        ports: &Ports,
    ) -> anyhow::Result<Command> {
        match engine {
            Engine::Wasmplug => self.wasmplug(&self.wasmplug, plugins, ports),
            Engine::Before => {
                let program = self.before.as_deref();
                let program = program.context("name the other build with `--before FILE`")?;
                self.wasmplug(program, plugins, ports)
            }
            Engine::Envoy => self.envoy(plugins, ports),
            Engine::Nginx => self.nginx("nginx-proxy", &nginx_proxy(ports)),
        }
    }

    /// The upstream of all: nginx that answers 96 bytes.
    pub(super) fn upstream(&self, port: u16) -> anyhow::Result<Command> {
        self.nginx("nginx-upstream", &nginx_upstream(port))
    }

    fn wasmplug(&self, program: &Path, plugins: usize, ports: &Ports) -> anyhow::Result<Command> {
        let folder = self.work.join("wasmplug");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        if plugins > 0 {
            fs::write(folder.join("plugins.yaml"), wasm_plugins(plugins, &self.module))?;
        }
        let mut command = Command::new(program);
        command.arg("run").arg("-f").arg(folder);
        for (option, port) in
            [("--listen", ports.listen), ("--admin", ports.admin), ("--upstream", ports.upstream)]
        {
            command.args([option, &format!("127.0.0.1:{port}")]);
        }
        command.args(["--workers", "1"]);
        Ok(command)
    }

    fn envoy(&self, plugins: usize, ports: &Ports) -> anyhow::Result<Command> {
        let path = self.work.join("envoy.yaml");
        // JSON is YAML.
        let bootstrap = envoy_bootstrap(plugins, &self.module, ports);
        fs::write(&path, serde_json::to_string_pretty(&bootstrap)?)?;
        let mut command = Command::new(&self.envoy);
        command.args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["--log-level", "warning", "--config-path"]).arg(path);
        Ok(command)
    }

    fn nginx(&self, name: &str, http: &str) -> anyhow::Result<Command> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder)?;
        let path = folder.join("nginx.conf");
        fs::write(&path, nginx_configuration(http))?;
        let mut command = Command::new(&self.nginx);
        command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(path);
        Ok(command)
    }
}

/// One resource for each plugin, in the order of their tags.
fn wasm_plugins(plugins: usize, module: &Path) -> String {
    let mut text = String::new();
    for index in 0..plugins {
        let priority = plugins - index;
        write!(
            text,
            "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  \
             name: tag-{index}\nspec:\n  url: file://{}\n  phase: AUTHN\n  priority: {priority}\n  \
             pluginConfig:\n    tag: p{index}\n",
            module.display()
        )
        .expect("writing to a string cannot fail");
    }
    text
}

fn envoy_bootstrap(plugins: usize, module: &Path, ports: &Ports) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";
    let mut filters: Vec<Value> = (0..plugins)
        .map(|index| {
            json!({
                "name": format!("tag-{index}"),
                "typed_config": {
                    "@type": format!("{TYPES}.http.wasm.v3.Wasm"),
                    "config": {
                        "name": format!("tag-{index}"),
                        "root_id": format!("tag-{index}"),
                        "configuration": {
                            "@type": "type.googleapis.com/google.protobuf.StringValue",
                            "value": format!("p{index}"),
                        },
                        "vm_config": {
                            "vm_id": format!("vm-{index}"),
                            "runtime": "envoy.wasm.runtime.v8",
                            "code": { "local": { "filename": module } },
                        },
                    },
                },
            })
        })
        .collect();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{TYPES}.http.router.v3.Router") },
    }));
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }]);
    let manager = json!({
        "@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
        },
        "http_filters": filters,
    });
    json!({
        "static_resources": {
            "listeners": [{
                "address": address(ports.listen),
                "filter_chains": [{
                    "filters": [{ "name": "http", "typed_config": manager }],
                }],
            }],
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{
                        "lb_endpoints": [{ "endpoint": { "address": address(ports.upstream) } }],
                    }],
                },
            }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

/// One process that writes nowhere but in its own folder.
fn nginx_configuration(http: &str) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid nginx.pid;\n\
         error_log stderr error;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  \
         client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  \
         uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n{http}}}\n"
    )
}

fn nginx_upstream(port: u16) -> String {
    let answer = "x".repeat(96);
    format!(
        "  server {{\n    listen 127.0.0.1:{port};\n    location / {{ return 200 \"{answer}\"; }}\n  \
         }}\n"
    )
}

fn nginx_proxy(ports: &Ports) -> String {
    format!(
        "  upstream upstream {{\n    server 127.0.0.1:{};\n    keepalive 64;\n    \
         keepalive_requests 1000000000;\n  }}\n  server {{\n    listen 127.0.0.1:{};\n    \
         location / {{\n      proxy_pass http://upstream;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n    }}\n  }}\n",
        ports.upstream, ports.listen
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { listen: 1, admin: 2, upstream: 3 };

    #[test]
    fn envoy_runs_each_plugin_in_a_vm_of_its_own_before_the_router() {
        let bootstrap = envoy_bootstrap(2, Path::new("a.wasm"), &PORTS);
        let manager = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
            [0]["typed_config"];
        let filters = manager["http_filters"].as_array().unwrap();
        let vms: Vec<_> = filters
            .iter()
            .map(|filter| filter["typed_config"]["config"]["vm_config"]["vm_id"].as_str())
            .collect();
        assert_eq!(vms, [Some("vm-0"), Some("vm-1"), None]);
        assert_eq!(filters[2]["name"], "envoy.filters.http.router");
    }

    #[test]
    fn our_resources_are_in_the_same_order() {
        let text = wasm_plugins(2, Path::new("/m.wasm"));
        let found: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("priority") || line.starts_with("tag:"))
            .collect();
        assert_eq!(found, ["priority: 2", "tag: p0", "priority: 1", "tag: p1"]);
        assert_eq!(wasm_plugins(0, Path::new("/m.wasm")), "");
    }
}
