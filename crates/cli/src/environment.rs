//! What the process was started with. Read once, in `main`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Turns colours off, whatever its value. Source: no-color.org.
const NO_COLOR: &str = "NO_COLOR";
/// Where modules are kept unless `--cache-dir` says so.
const CACHE_DIRECTORY: &str = "WASMPLUG_CACHE_DIR";

/// The environment as the commands see it.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Variables with text values, for `vmConfig.env` with `valueFrom: HOST`.
    pub(crate) variables: HashMap<String, String>,
    /// Standard error is a terminal that wants colours.
    pub(crate) has_colours: bool,
    /// Standard error is a terminal.
    pub(crate) is_terminal: bool,
    /// Number of processor cores that this process may use.
    pub(crate) cores: usize,
}

// === impl Environment ===

impl Environment {
    pub(crate) fn read() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let variables: HashMap<String, String> = std::env::vars_os().filter_map(text).collect();
        let is_terminal = std::io::stderr().is_terminal();
        let has_colours = is_terminal && variables.get(NO_COLOR).is_none_or(String::is_empty);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { variables, has_colours, is_terminal, cores }
    }

    /// Where modules are kept by default: the user's cache directory.
    pub(crate) fn cache_directory(&self) -> PathBuf {
        let path = |name: &str| self.variables.get(name).filter(|value| !value.is_empty());
        match (path(CACHE_DIRECTORY), path("XDG_CACHE_HOME"), path("HOME")) {
            (Some(own), _, _) => PathBuf::from(own),
            (None, Some(cache), _) => PathBuf::from(cache).join("wasmplug"),
            (None, None, Some(home)) => PathBuf::from(home).join(".cache/wasmplug"),
            (None, None, None) => PathBuf::from(".wasmplug-cache"),
        }
    }
}
