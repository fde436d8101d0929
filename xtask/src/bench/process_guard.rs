//! A child process that does not outlive its measurement.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::bench::proc;
use crate::process;

/// How long a process that has been asked to end may take before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two looks at whether it has ended.
const END_POLL: Duration = Duration::from_millis(5);

/// A running child. Dropping it ends it; the kernel ends it, too, if this process dies first, as
/// by ctrl-C.
pub(super) struct ProcessGuard {
    child: Child,
    log: std::path::PathBuf,
}

impl ProcessGuard {
    /// Starts a command on some cores, with its output in a log file.
    ///
    /// `taskset` and `setpriv` replace themselves by the command, so the child is the command.
    pub(super) fn start(command: &Command, cores: &str, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("`{}`", log.display()))?;
        let mut pinned = pinned(command, cores);
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

    /// Gives it some time to end by itself.
    fn wait_for_end(&mut self) {
        let deadline = Instant::now() + END_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::park_timeout(END_POLL);
        }
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        // Workers of nginx outlive a master that is killed; one that is asked ends them first.
        let children = proc::children(self.child.id()).unwrap_or_default();
        if !children.is_empty() {
            signal("TERM", self.child.id());
            self.wait_for_end();
        }
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        for child in children {
            signal("KILL", child);
        }
    }
}

/// Does nothing to a process that is gone. A shell always has `kill`.
fn signal(signal: &str, pid: u32) {
    let kill = format!("kill -{signal} {pid}");
    drop(process::output(Command::new("sh").args(["-c", &kill])));
}

/// The command bound to cores, such as `0-1`, and to the life of this process.
pub(super) fn pinned(command: &Command, cores: &str) -> Command {
    let mut pinned = Command::new("setpriv");
    // A master of nginx that ends by this ends its workers first.
    pinned.args(["--pdeathsig", "TERM", "taskset", "--cpu-list", cores]);
    pinned.arg(command.get_program()).args(command.get_args());
    pinned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str, arguments: &[&str], folder: &Path) -> ProcessGuard {
        let mut command = Command::new(program);
        command.args(arguments);
        ProcessGuard::start(&command, "0", &folder.join("log")).unwrap()
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
    fn children_of_a_dropped_child_are_gone_too() {
        let folder = tempfile::tempdir().unwrap();
        let child = start("sh", &["-c", "sleep 600 & wait"], folder.path());
        let grandchild = loop {
            if let Some(pid) = proc::children(child.id()).unwrap().first() {
                break *pid;
            }
            thread::yield_now();
        };
        drop(child);
        // It dies a little later, and may stay as a zombie, without memory, where nobody reaps
        // orphans.
        let is_alive = || {
            let status = fs_err::read_to_string(format!("/proc/{grandchild}/status"));
            status.is_ok_and(|status| status.contains("VmRSS:"))
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        while is_alive() {
            assert!(Instant::now() < deadline, "{grandchild} lives on");
            thread::yield_now();
        }
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
