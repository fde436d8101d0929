//! A child process that does not outlive its measurement.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::process;

/// A running child. Dropping it ends it; the kernel ends it, too, if this process dies first, as
/// by ctrl-C.
pub(super) struct ProcessGuard {
    child: Child,
    log: std::path::PathBuf,
}

impl ProcessGuard {
    /// Starts a command on one core, with its output in a log file.
    ///
    /// `taskset` and `setpriv` replace themselves by the command, so the child is the command.
    pub(super) fn start(command: &Command, core: usize, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("`{}`", log.display()))?;
        let mut pinned = pinned(command, core);
        let child = pinned
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run `{}`", process::display(&pinned)))?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    ///
    /// If the process has ended, with the end of its log.
    pub(super) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs_err::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let end: Vec<_> = lines.into_iter().rev().collect();
        bail!("the process ended with {status}: {}", end.join("\n"));
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command bound to one core and to the life of this process.
pub(super) fn pinned(command: &Command, core: usize) -> Command {
    let mut pinned = Command::new("setpriv");
    pinned.args(["--pdeathsig", "KILL", "taskset", "--cpu-list", &core.to_string()]);
    pinned.arg(command.get_program()).args(command.get_args());
    pinned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str, arguments: &[&str], folder: &Path) -> ProcessGuard {
        let mut command = Command::new(program);
        command.args(arguments);
        ProcessGuard::start(&command, 0, &folder.join("log")).unwrap()
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start("sleep", &["600"], folder.path());
        child.ensure_alive().unwrap();
        let entry = format!("/proc/{}", child.id());
        assert!(Path::new(&entry).exists());
        drop(child);
        assert!(!Path::new(&entry).exists());
    }

    #[test]
    fn a_child_that_ended_tells_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start("sh", &["-c", "echo no such port; exit 3"], folder.path());
        child.child.wait().unwrap();
        let error = child.ensure_alive().expect_err("it ended").to_string();
        assert!(error.contains("no such port") && error.contains('3'), "{error}");
    }
}
