//! Compiling one plugin.

use std::cell::OnceCell;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::plugins::sysroot::{self, TARGET, WasmRust, remap};
use crate::plugins::{Language, Plugin, assemblyscript, cpp};
use crate::process;
use crate::repository::Repository;

/// The machine's own Go, no module but the plugin's own, nothing of the checkout in the result.
const GO_ENVIRONMENT: [(&str, &str); 4] = [
    ("GOFLAGS", "-buildvcs=false"),
    ("GOPROXY", "off"),
    ("GOTOOLCHAIN", "local"),
    ("GOWORK", "off"),
];

/// The compilers, found when the first plugin needs them.
pub(super) struct Toolchains<'a> {
    repository: &'a Repository,
    rust: OnceCell<WasmRust>,
}

impl<'a> Toolchains<'a> {
    pub(super) fn new(repository: &'a Repository) -> Self {
        Self { repository, rust: OnceCell::new() }
    }

    /// The compiler of this language with its version.
    pub(super) fn version(&self, language: Language) -> anyhow::Result<String> {
        match language {
            Language::Rust => Ok(self.rust()?.version.clone()),
            Language::Go => process::output(
                Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local"),
            )
            .context("plugins in Go need Go 1.24 or newer"),
            Language::AssemblyScript => assemblyscript::version(self.repository),
            Language::Cpp => cpp::version(),
        }
    }

    /// Compiles a plugin, using `work` for what is in between, and returns the module.
    pub(super) fn build(
        &self,
        plugin: Plugin,
        folder: &Path,
        work: &Path,
    ) -> anyhow::Result<Vec<u8>> {
        fs_err::create_dir_all(work)?;
        let module = match plugin.language {
            Language::Rust => self.build_rust(plugin, folder, work)?,
            Language::Go => build_go(folder, work)?,
            Language::AssemblyScript => assemblyscript::build(folder, work)?,
            Language::Cpp => cpp::build(folder, work)?,
        };
        Ok(fs_err::read(module)?)
    }

    /// Runs the unit tests of what in a plugin needs no host, on this machine, in languages that
    /// bring a way to write them; the proxy's tests run all plugins.
    pub(super) fn test(&self, plugin: Plugin, folder: &Path) -> anyhow::Result<()> {
        let mut command = match plugin.language {
            Language::Rust => {
                let mut command = Command::new("cargo");
                let work = self.repository.target("plugins-build/native");
                command.args(["test", "--locked", "--target-dir"]).arg(work);
                command
            }
            Language::Go => {
                let mut command = Command::new("go");
                command.args(["test", "./..."]).envs(GO_ENVIRONMENT);
                command
            }
            Language::AssemblyScript | Language::Cpp => return Ok(()),
        };
        process::run(command.current_dir(folder))
    }

    fn build_rust(&self, plugin: Plugin, folder: &Path, work: &Path) -> anyhow::Result<PathBuf> {
        let rust = self.rust()?;
        process::run(Command::new("cargo").args(["fetch", "--locked"]).current_dir(folder))?;
        let mut flags = rust.flags.clone();
        flags.extend(path_flags(folder)?);
        let mut command = Command::new("cargo");
        command
            .args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"])
            .arg(work)
            .current_dir(folder)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTFLAGS");
        // For this build alone: everything else keeps rustup's compiler.
        if let Some(rustc) = &rust.rustc {
            command.env("RUSTC", rustc);
        }
        if let Some(linker) = &rust.linker {
            command.env("CARGO_TARGET_WASM32_WASIP1_LINKER", linker);
        }
        process::run(&mut command)?;
        let file = format!("{}.wasm", plugin.name.replace('-', "_"));
        Ok(work.join(TARGET).join("release").join(file))
    }

    fn rust(&self) -> anyhow::Result<&WasmRust> {
        if let Some(rust) = self.rust.get() {
            return Ok(rust);
        }
        let found = sysroot::find(self.repository)?;
        Ok(self.rust.get_or_init(|| found))
    }
}

fn build_go(folder: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let module = work.join("plugin.wasm");
    process::run(
        Command::new("go")
            .args(["build", "-buildmode=c-shared", "-ldflags=-s -w", "-trimpath", "-o"])
            .arg(&module)
            .arg(".")
            .current_dir(folder)
            .env("GOOS", "wasip1")
            .env("GOARCH", "wasm")
            .envs(GO_ENVIRONMENT),
    )
    .context("plugins in Go need Go 1.24 or newer")?;
    Ok(module)
}

/// Flags that keep the places of this machine out of the module.
fn path_flags(folder: &Path) -> anyhow::Result<Vec<String>> {
    let home = cargo_home()?;
    let mut flags = vec![remap(&home, "/cargo"), remap(folder, "/plugin")];
    // One folder for each registry or mirror, under a name that differs between machines.
    for registry in fs_err::read_dir(home.join("registry/src"))? {
        flags.push(remap(&registry?.path(), "/crates"));
    }
    Ok(flags)
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::home_dir().context("no home folder and no `CARGO_HOME`")?;
    Ok(home.join(".cargo"))
}
