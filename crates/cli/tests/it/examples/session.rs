//! A terminal in a copy of an example's folder.
//!
//! Commands run as they are typed, except those that would need a fixed port: the proxy, the echo
//! server and the registry are started on free ones, and every address is translated, to the real
//! one on the way in and to the documented one on the way out.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use wasmplug_testkit::{Registry, RegistryThread};

use crate::process::{Running, isolate, prebuilt};

const LISTEN: &str = "127.0.0.1:10000";
const ADMIN: &str = "127.0.0.1:15000";
const ECHO: &str = "127.0.0.1:8080";
const REGISTRY: &str = "127.0.0.1:5000";
/// Whom `htpasswd` of the examples lets in.
const ACCOUNT: (&str, &str) = ("user", "hunter2");

/// A terminal; what it started ends with it.
pub(super) struct Session {
    /// Holds the copy of the folder beside the modules, and is the home of the commands.
    home: TempDir,
    folder: PathBuf,
    /// Documented addresses and the real ones.
    addresses: Vec<(&'static str, String)>,
    /// What runs in the background, by its number less one.
    jobs: Vec<Option<Job>>,
    registry: Option<RegistryThread>,
}

enum Job {
    Proxy(Running),
    Echo { _process: Echo },
}

/// Ends its process with it.
struct Echo(Child);

/// What a command has shown.
#[derive(Debug)]
pub(super) enum Shown {
    /// All of it.
    Exactly(Vec<String>),
    /// What a proxy in the background has said, which the README need not show in full.
    Among(Vec<String>),
}

// === impl Session ===

impl Session {
    /// Copies `examples/NAME` and what its relative URLs lead to.
    pub(super) fn begin(examples: &Path, name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let modules = home.path().join("plugins");
        std::fs::create_dir(&modules).unwrap();
        let prebuilt = prebuilt("tag-headers-rust");
        std::os::unix::fs::symlink(prebuilt.parent().unwrap(), modules.join("prebuilt")).unwrap();
        let copies = home.path().join("examples");
        let folder = copies.join(name);
        copy_folder(&examples.join(name), &folder);
        std::fs::copy(examples.join("echo.py"), copies.join("echo.py")).unwrap();
        Self { home, folder, addresses: Vec::new(), jobs: Vec::new(), registry: None }
    }

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// It fails, or cannot be run here; the reason is for the person who wrote the README.
    pub(super) fn run(&mut self, command: &str) -> Result<Shown, String> {
        let command = self.translate(command, |documented, real| (documented, real));
        let shown = if let Some(proxy) = command.strip_suffix('&') {
            if command.starts_with("wasmplug run ") {
                Shown::Among(self.start_proxy(proxy))
            } else if command.starts_with("python3 ../echo.py ") {
                Shown::Exactly(vec![self.start_echo()])
            } else {
                return Err("nobody would wait for it".to_owned());
            }
        } else if let Some(number) = command.strip_prefix("kill %") {
            self.end_job(number)?;
            Shown::Exactly(Vec::new())
        } else if command.starts_with("docker ") {
            self.docker(&command)?
        } else {
            self.shell(&command)?
        };
        Ok(self.document(shown))
    }

    fn document(&self, shown: Shown) -> Shown {
        let back = |line: String| {
            // Lines of HTTP end with a carriage return.
            self.translate(line.trim_end(), |documented, real| (real, documented))
        };
        match shown {
            Shown::Exactly(lines) => Shown::Exactly(lines.into_iter().map(back).collect()),
            Shown::Among(lines) => Shown::Among(lines.into_iter().map(back).collect()),
        }
    }

    fn translate<'a>(
        &'a self,
        text: &str,
        direction: fn(&'a str, &'a str) -> (&'a str, &'a str),
    ) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (documented, real)| {
            let (from, to) = direction(documented, real);
            text.replace(from, to)
        })
    }

    fn know(&mut self, documented: &'static str, real: SocketAddr) {
        self.addresses.retain(|(known, _)| *known != documented);
        self.addresses.push((documented, real.to_string()));
    }

    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]).current_dir(&self.folder).stdin(Stdio::null());
        isolate(&mut command, self.home.path());
        let binary = Path::new(env!("CARGO_BIN_EXE_wasmplug"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", binary.parent().unwrap().display()));
        for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs to the end, and waits until a change of a file is in effect.
    fn shell(&self, command: &str) -> Result<Shown, String> {
        let output = self.command(&format!("exec 2>&1\n{command}")).output().unwrap();
        let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("{}, and it showed:\n{text}", output.status));
        }
        let shown = text.lines().map(str::to_owned).collect();
        let verbs = ["mv ", "rm "];
        let changes =
            command.contains("sed -i ") || verbs.iter().any(|verb| command.starts_with(verb));
        match self.proxy() {
            Some(proxy) if changes => {
                Ok(Shown::Among(proxy.lines_until(&["router", "nothing is changed"])))
            }
            Some(_) if command.starts_with("cp ") => {
                Err("a copy is written piece by piece, which a proxy may see; use `mv`".to_owned())
            }
            _ => Ok(Shown::Exactly(shown)),
        }
    }

    fn proxy(&self) -> Option<&Running> {
        self.jobs.iter().rev().find_map(|job| match job {
            Some(Job::Proxy(proxy)) => Some(proxy),
            _ => None,
        })
    }

    fn start_proxy(&mut self, command: &str) -> Vec<String> {
        let mut text = format!("exec {} --listen 127.0.0.1:0 --admin 127.0.0.1:0", command.trim());
        if !text.contains(" --workers ") {
            text += " --workers 1";
        }
        let (proxy, said) = Running::start_command(self.command(&text));
        self.know(LISTEN, proxy.listen);
        self.know(ADMIN, proxy.admin);
        self.add_job(Job::Proxy(proxy));
        said
    }

    fn start_echo(&mut self) -> String {
        let mut command = self.command("exec python3 ../echo.py 0");
        let mut child = Echo(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit("http://").next().unwrap();
        self.know(ECHO, address.parse().unwrap());
        self.add_job(Job::Echo { _process: child });
        line
    }

    /// As a shell numbers them: behind the last one that has not ended.
    fn add_job(&mut self, job: Job) {
        while self.jobs.pop_if(|last| last.is_none()).is_some() {}
        self.jobs.push(Some(job));
    }

    /// `1; wait %1`: a shell goes on before the process has ended, and its port is taken.
    fn end_job(&mut self, text: &str) -> Result<(), String> {
        let number = text.split_once("; wait %").filter(|(one, other)| one == other);
        let number: usize = number
            .and_then(|(number, _)| number.parse().ok())
            .ok_or("a job is ended with `kill %N; wait %N`")?;
        match number.checked_sub(1).and_then(|at| self.jobs.get_mut(at)?.take()) {
            Some(Job::Proxy(proxy)) => drop(proxy.stop()),
            Some(Job::Echo { .. }) => {}
            None => return Err(format!("there is no job {number}")),
        }
        Ok(())
    }

    /// The two things that the examples do with Docker.
    fn docker(&mut self, command: &str) -> Result<Shown, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let value = |flag| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
        if words[1] == "run" && command.ends_with(" registry:2 > /dev/null") {
            let mut registry = Registry::builder().writable();
            if words.contains(&"REGISTRY_AUTH=htpasswd") {
                registry = registry.basic_auth(ACCOUNT.0, ACCOUNT.1);
            }
            let registry = RegistryThread::start(registry).unwrap();
            self.know(REGISTRY, registry.addr());
            rewrite(&self.folder, REGISTRY, &registry.addr().to_string());
            self.registry = Some(registry);
            return Ok(Shown::Exactly(Vec::new()));
        }
        match (&self.registry, value("-u"), value("-p")) {
            (Some(registry), Some(user), Some(password)) if words[1] == "login" => {
                let account = serde_json::json!({ "username": user, "password": password });
                let host = registry.addr().to_string();
                let config = serde_json::json!({ "auths": { host: account } });
                let folder = self.home.path().join(".docker");
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
                Ok(Shown::Exactly(vec!["Login Succeeded".to_owned()]))
            }
            _ => Err("not a use of Docker that the examples have".to_owned()),
        }
    }
}

// === impl Echo ===

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Replaces an address in all files of a folder.
fn rewrite(folder: &Path, from: &str, to: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rewrite(&path, from, to);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            std::fs::write(&path, text.replace(from, to)).unwrap();
        }
    }
}
