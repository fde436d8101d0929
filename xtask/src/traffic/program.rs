//! The programs that the traffic goes through.

use std::env;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};
use fs_err as fs;

use crate::process;
use crate::repository::Repository;
use crate::tools;

/// Worker threads of each program.
pub(crate) const WORKERS: &str = "2";

/// A running program. Dropping it ends it; the kernel ends it, too, if this process dies first.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

/// The product: the one that is named, or this checkout built as it is published.
///
/// # Errors
///
/// If it does not build, or is not there.
pub(crate) fn wasmplug_binary(
    repository: &Repository,
    named: Option<&Path>,
) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return path.canonicalize().with_context(|| format!("no program at `{}`", path.display()));
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--profile", "dist", "--package", "wasmplug"]);
    process::run(cargo.current_dir(repository.path("")))?;
    Ok(repository.target("dist/wasmplug"))
}

/// Where Envoy is.
///
/// # Errors
///
/// If it is not there; the text says how to get it.
pub(crate) fn envoy(repository: &Repository) -> anyhow::Result<PathBuf> {
    let path = env::var_os("WASMPLUG_ENVOY");
    let path = path.map_or_else(|| repository.tools(tools::ENVOY_LINK), PathBuf::from);
    ensure!(path.exists(), "no Envoy at `{}`; run `cargo xtask tools`", path.display());
    Ok(path)
}

/// The command that runs the product on these resources.
pub(crate) fn wasmplug(binary: &Path, resources: &Path, ports: [u16; 3]) -> Command {
    let mut command = Command::new(binary);
    command.args(["run", "--log", "off", "--workers", WORKERS, "-f"]).arg(resources);
    for (option, port) in ["--listen", "--admin", "--upstream"].iter().zip(ports) {
        command.args([*option, &format!("127.0.0.1:{port}")]);
    }
    command
}

/// Ports that are free now. They are asked for at once, so that they differ.
///
/// # Errors
///
/// If the loopback interface has none.
pub(crate) fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

// === impl Program ===

impl Program {
    /// Starts a command, with its output in a log file.
    ///
    /// `setpriv` replaces itself by the command, so the child is the command.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub(crate) fn start(command: &Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("`{}`", log.display()))?;
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        let child = bound
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run `{}`", process::display(&bound)))?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    /// # Errors
    ///
    /// If the program has ended, with the end of its log.
    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let end: Vec<_> = lines.into_iter().rev().collect();
        bail!("the program ended with {status}: {}", end.join("\n"));
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.and_then(|line| line.trim().strip_suffix("kB")).context("no `VmRSS`")?;
        Ok(line.trim().parse()?)
    }

    /// Open files and sockets.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub(crate) fn open_files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str, arguments: &[&str], folder: &Path) -> Program {
        let mut command = Command::new(program);
        command.args(arguments);
        Program::start(&command, &folder.join("log")).unwrap()
    }

    #[test]
    fn a_running_program_has_memory_and_files_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = start("sleep", &["600"], folder.path());
        program.ensure_alive().unwrap();
        assert!(program.resident_kib().unwrap() > 0 && program.open_files().unwrap() >= 3);
        let entry = format!("/proc/{}", program.child.id());
        drop(program);
        assert!(!Path::new(&entry).exists());
    }

    #[test]
    fn a_build_that_is_named_is_there() {
        let repository = Repository::find().unwrap();
        let found = wasmplug_binary(&repository, Some(Path::new("/bin/sh"))).unwrap();
        assert!(found.exists());
        assert!(wasmplug_binary(&repository, Some(Path::new("/no/such/program"))).is_err());
    }

    #[test]
    fn a_program_that_ended_tells_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = start("sh", &["-c", "echo no such port; exit 3"], folder.path());
        program.child.wait().unwrap();
        let error = program.ensure_alive().expect_err("it ended").to_string();
        assert!(error.contains("no such port") && error.contains('3'), "{error}");
    }
}
