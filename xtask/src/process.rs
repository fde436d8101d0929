//! Running other programs, each printed before it runs.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs a command with the task's own output.
///
/// # Errors
///
/// If it cannot be started or exits with another status than zero.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("$ {}", display(command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run `{}`", program(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", program(command));
    }
    Ok(())
}

/// Runs a command and returns what it wrote to its standard output, without trailing white space.
/// It is not printed, since it only asks a question.
///
/// # Errors
///
/// If it cannot be started, or exits with another status than zero: then with what it wrote to its
/// standard error.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", program(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", display(command), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The command as a person would type it in a shell.
pub(crate) fn display(command: &Command) -> String {
    let mut words = Vec::new();
    if let Some(folder) = command.get_current_dir() {
        words.push(format!("cd {} &&", quote(folder.as_os_str())));
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quote(value)));
        }
    }
    words.push(quote(command.get_program()));
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

/// Where a program of this name is on the `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Servers live in `sbin`, which a plain user's path may lack.
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Whether the task may install packages.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|user| user == "0")
}

/// Installs Debian packages.
///
/// # Errors
///
/// If apt cannot; it needs root.
pub(crate) fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    // Another installation may be under way on a shared machine.
    const WAIT: &str = "-oDPkg::Lock::Timeout=120";
    run(Command::new("apt-get").args(["update", "-qq", WAIT]))?;
    run(Command::new("apt-get")
        .arg(WAIT)
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into_owned()
    } else if word.contains(char::is_control) {
        shell_escaped(&word)
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The shell's `$'…'`, for words with control characters.
fn shell_escaped(word: &str) -> String {
    let escape = |c: char| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("$'{}'", word.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_person_would_type_it() {
        let mut command = Command::new("cargo");
        command.arg("build").arg("it's").env("RUSTFLAGS", "-C x").current_dir("/a b");
        assert_eq!(display(&command), r"cd '/a b' && RUSTFLAGS='-C x' cargo build 'it'\''s'");
        assert_eq!(display(Command::new("echo").arg("a\nb")), r"echo $'a\x0ab'");
    }

    #[test]
    fn a_failing_command_is_an_error_with_its_complaint() {
        let error = output(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]))
            .expect_err("it exits with 3")
            .to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
        assert!(run(&mut Command::new("false")).is_err());
        assert!(run(&mut Command::new("no-such-program-here")).is_err());
    }

    #[test]
    fn the_output_of_a_command_comes_without_trailing_white_space() {
        assert_eq!(output(Command::new("echo").arg("a")).expect("echo runs"), "a");
    }

    #[test]
    fn programs_are_found_on_the_path_only_if_executable() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-here"), None);
    }
}
