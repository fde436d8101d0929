//! The proxies that are measured, and how each is told to do the same.

mod envoy;
mod nginx;
pub(super) mod wasmplug;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use fs_err as fs;

use crate::bench::workload::{Case, Workload};
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
    /// Ours with one VM for the process for each plugin.
    #[serde(rename = "one-vm")]
    OneVm,
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

/// What clients are shown over TLS.
pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

/// What the programs are needed for.
pub(super) struct Needs<'a> {
    pub(super) engines: &'a [Engine],
    pub(super) workloads: &'a [Workload],
    /// The product, instead of building it.
    pub(super) binary: Option<&'a Path>,
    /// Another build of it.
    pub(super) before: Option<&'a Path>,
}

/// How to get what is missing.
const HINT: &str = "run `cargo xtask tools`";

// === impl Engine ===

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wasmplug => "wasmplug",
            Self::Before => "before",
            Self::OneVm => "one-vm",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it is the build of this tree.
    fn is_built(self) -> bool {
        matches!(self, Self::Wasmplug | Self::OneVm)
    }

    pub(super) fn runs_plugins(self) -> bool {
        self != Self::Nginx
    }
}

// === impl Programs ===

impl Programs {
    /// Finds the programs, builds ours, and makes a certificate if one is needed.
    ///
    /// # Errors
    ///
    /// If one is missing; the text says how to get it.
    pub(super) fn find(repository: &Repository, needs: &Needs<'_>) -> anyhow::Result<Self> {
        let envoy = env::var_os("WASMPLUG_ENVOY")
            .map_or_else(|| repository.tools(tools::ENVOY_LINK), PathBuf::from);
        if needs.engines.contains(&Engine::Envoy) {
            ensure!(envoy.exists(), "no Envoy at `{}`; {HINT}", envoy.display());
        }
        for program in programs(needs.workloads) {
            ensure!(process::find(program).is_some(), "`{program}` is missing; {HINT}");
        }
        let wasmplug = match needs.binary {
            Some(binary) => existing(binary)?,
            None if needs.engines.iter().any(|engine| engine.is_built()) => {
                build(repository, "dist")?
            }
            None => repository.target("dist/wasmplug"),
        };
        let work = repository.target("bench");
        fs::create_dir_all(&work)?;
        if needs.workloads.contains(&Workload::Tls) {
            Certificate::in_folder(&work).make()?;
        }
        Ok(Self {
            wasmplug,
            before: needs.before.map(existing).transpose()?,
            envoy,
            nginx: process::find("nginx").context("`nginx` is missing")?,
            module: module(repository),
            work,
        })
    }

    /// Writes the configuration of an engine and returns the command that runs it in the
    /// foreground.
    pub(super) fn command(&self, case: Case, ports: &Ports) -> anyhow::Result<Command> {
        let Self { work, module, .. } = self;
        match case.engine {
            Engine::Wasmplug | Engine::OneVm => {
                wasmplug::command(&self.wasmplug, work, module, case, ports)
            }
            Engine::Before => {
                let program = self.before.as_deref();
                let program = program.context("name the other build with `--before FILE`")?;
                wasmplug::command(program, work, module, case, ports)
            }
            Engine::Envoy => envoy::command(&self.envoy, work, module, case, ports),
            Engine::Nginx => nginx::proxy(&self.nginx, work, case, ports),
        }
    }

    /// The upstream of all.
    pub(super) fn upstream(&self, port: u16) -> anyhow::Result<Command> {
        nginx::upstream(&self.nginx, &self.work, port)
    }
}

// === impl Certificate ===

impl Certificate {
    /// Where it lies in the folder of a run.
    pub(super) fn in_folder(work: &Path) -> Self {
        Self { chain: work.join("certificate.pem"), key: work.join("key.pem") }
    }

    /// Makes a new one with a key on the curve P-256.
    fn make(&self) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "30", "-subj", "/CN=bench"]);
        command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]).arg(&self.key);
        process::output(command.arg("-out").arg(&self.chain))?;
        Ok(())
    }
}

/// The plugin that is measured.
pub(super) fn module(repository: &Repository) -> PathBuf {
    repository.path("plugins/prebuilt/tag-headers-rust.wasm")
}

/// Builds the product with a profile.
pub(super) fn build(repository: &Repository, profile: &str) -> anyhow::Result<PathBuf> {
    process::run(
        Command::new("cargo")
            .args(["build", "--profile", profile, "--package", "wasmplug"])
            .current_dir(repository.path("")),
    )?;
    Ok(repository.target(profile).join("wasmplug"))
}

/// The full path of a build that somebody named.
pub(super) fn existing(binary: &Path) -> anyhow::Result<PathBuf> {
    Ok(fs::canonicalize(binary)?)
}

/// Programs from packages that a run needs.
fn programs(workloads: &[Workload]) -> Vec<&'static str> {
    let mut programs = vec!["nginx", "taskset", "setpriv"];
    // The rate is derived from a run of wrk.
    if workloads.iter().any(|workload| *workload != Workload::Http2) {
        programs.push("wrk");
    }
    if workloads.iter().any(|workload| workload.is_by_h2load()) {
        programs.push("h2load");
    }
    if workloads.contains(&Workload::Tls) {
        programs.extend(["openssl", "curl"]);
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_workload_uses_is_needed() {
        for (workload, program, others) in [
            (Workload::Small, "wrk", ["h2load", "curl"]),
            (Workload::Http2, "h2load", ["wrk", "openssl"]),
            (Workload::Tls, "openssl", ["h2load", "h2load"]),
            (Workload::Rate, "h2load", ["openssl", "curl"]),
        ] {
            let needed = programs(&[workload]);
            assert!(needed.contains(&program), "{workload:?}: {needed:?}");
            assert!(others.iter().all(|other| !needed.contains(other)), "{workload:?}: {needed:?}");
        }
    }

    #[test]
    fn a_build_that_is_not_there_is_refused() {
        assert!(existing(Path::new("no/such/build")).is_err());
        assert!(existing(Path::new("/bin/sh")).is_ok());
    }

    #[test]
    fn a_certificate_is_made_with_its_key() {
        if process::find("openssl").is_none() {
            println!("SKIPPED: openssl is missing; {HINT}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::in_folder(folder.path());
        certificate.make().unwrap();
        assert!(fs::read_to_string(&certificate.chain).unwrap().contains("BEGIN CERTIFICATE"));
        assert!(fs::read_to_string(&certificate.key).unwrap().contains("PRIVATE KEY"));
        assert!(Certificate::in_folder(&folder.path().join("none")).make().is_err());
    }
}
