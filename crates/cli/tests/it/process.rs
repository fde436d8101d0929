//! Running the binary in tests.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use wasmplug_testkit::{RawClient, Response, UpstreamThread, patience};

/// A run that has ended.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A `wasmplug run` that serves. Ends with the value.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The folder of prebuilt example modules, or a rebuilt one.
pub(crate) fn prebuilt(name: &str) -> PathBuf {
    let folder = std::env::var_os("WASMPLUG_PREBUILT_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/prebuilt"),
        PathBuf::from,
    );
    let path = folder.join(format!("{name}.wasm"));
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmplug"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    isolate(&mut command, folder);
    command
}

/// Keeps what the machine's user has set up away from a command: the test's folder is its home.
pub(crate) fn isolate(command: &mut Command, home: &Path) {
    command.env("WASMPLUG_CACHE_DIR", home.join(".cache")).env_remove("NO_COLOR");
    // Nobody is logged in to a registry but whom the test logs in.
    command.env("HOME", home);
    for variable in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"] {
        command.env_remove(variable);
    }
}

/// Runs to the end.
pub(crate) fn run_to_end(folder: &Path, arguments: &[&str]) -> Ended {
    end(command(folder, arguments))
}

/// Runs to the end with programs of the test's own in the folder `bin` before all others.
pub(crate) fn run_with_programs(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = command(folder, arguments);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    end(command)
}

fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

// === impl Running ===

impl Running {
    /// Starts `wasmplug run` on free ports and waits until its first chain is in effect.
    pub(crate) fn start(folder: &Path, upstream: &UpstreamThread, arguments: &[&str]) -> Self {
        Self::start_to(folder, &upstream.addr().to_string(), arguments)
    }

    /// The same, with any upstream.
    pub(crate) fn start_to(folder: &Path, upstream: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["run", "--upstream", upstream];
        for default in [["--listen", "127.0.0.1:0"], ["--admin", "127.0.0.1:0"], ["--workers", "1"]]
        {
            if !arguments.contains(&default[0]) {
                all.extend(default);
            }
        }
        all.extend(arguments);
        Self::start_command(command(folder, &all)).0
    }

    /// Starts a command that is, or becomes, a `wasmplug run` on free ports; also returns what it
    /// said until its first chain was in effect.
    pub(crate) fn start_command(mut command: Command) -> (Self, Vec<String>) {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child, lines, listen: address, admin: address };
        running.listen = running.address_after("listening on ");
        running.admin = running.address_after("admin on ");
        let said = running.lines_until(&["router"]);
        (running, said)
    }

    /// Waits for a line of standard error that contains this, and returns it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.lines_until(&[text]).pop().unwrap()
    }

    /// Waits for a line of standard error that contains one of these, and returns all lines up to
    /// it.
    pub(crate) fn lines_until(&self, texts: &[&str]) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(patience()) {
                Ok(line) => {
                    let is_it = texts.iter().any(|text| line.contains(text));
                    seen.push(line);
                    if is_it {
                        return seen;
                    }
                }
                Err(error) => panic!("no line with {texts:?} ({error}) in:\n{}", seen.join("\n")),
            }
        }
    }

    /// Asks the process to end, waits for it, and returns what it said meanwhile.
    pub(crate) fn stop(mut self) -> Vec<String> {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().collect()
    }

    /// Waits for the process to end by itself, and returns what it said meanwhile.
    pub(crate) fn wait(mut self) -> Vec<String> {
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().collect()
    }

    /// Asks the process to read everything again.
    pub(crate) fn hang_up(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// One request over a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        RawClient::connect(self.listen).unwrap().get(path).unwrap()
    }

    /// An admin page.
    pub(crate) fn admin(&self, path: &str) -> Response {
        RawClient::connect(self.admin).unwrap().get(path).unwrap()
    }

    fn address_after(&self, marker: &str) -> SocketAddr {
        let line = self.wait_for(marker);
        let (_, rest) = line.split(marker).nth(1).unwrap().split_once("://").unwrap();
        rest.split(',').next().unwrap().trim().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
}

/// Starts `wasmplug run`, asks it to end before its first chain is in effect, and waits for it.
pub(crate) fn stop_while_starting(folder: &Path, arguments: &[&str]) -> Option<i32> {
    let mut all = vec!["run", "--upstream", "127.0.0.1:1"];
    all.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    all.extend(arguments);
    let mut child = command(folder, &all).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines();
    assert!(lines.any(|line| line.unwrap().contains("admin on http://")));
    terminate(&child);
    lines.for_each(drop);
    child.wait().unwrap().code()
}
