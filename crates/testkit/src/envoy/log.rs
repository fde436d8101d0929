//! What plugins logged, found in Envoy's log.

/// Where Envoy's own part of a line ends and the plugin's begins.
const MARK: &str = "wasm log";

/// One line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginLine {
    /// Its level, as Envoy calls it: `trace`, `debug`, `info`, `warning`, `error` or `critical`.
    pub level: String,
    /// Whether a stream logged it, and not the plugin as a whole.
    pub is_of_stream: bool,
    /// The message.
    pub message: String,
}

// === impl PluginLine ===

impl PluginLine {
    /// The lines of plugins in a log of Envoy, in order.
    ///
    /// Source: Envoy writes `[time][thread][level][wasm] [file:line] wasm log NAMES: MESSAGE`,
    /// where the names are those of the plugin if it is a stream that logs, and none else, as long
    /// as root id and VM id are empty.
    pub fn all(log: &str) -> Vec<Self> {
        log.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let (head, rest) = line.split_once(MARK)?;
        let mut fields = head.split(['[', ']']).filter(|field| !field.trim().is_empty());
        let level = fields.nth(2)?.to_owned();
        if fields.next()? != "wasm" {
            return None;
        }
        let (names, message) = rest.split_once(": ")?;
        let is_of_stream = !names.trim().is_empty();
        Some(Self { level, is_of_stream, message: message.to_owned() })
    }
}

#[test]
fn lines_of_plugins_are_told_from_envoys_own() {
    let line = |level: &str, is_of_stream, message: &str| PluginLine {
        level: level.to_owned(),
        is_of_stream,
        message: message.to_owned(),
    };
    let log = "[2026-01-01 00:00:00.000][1][info][main] [a.cc:1] starting workers\n\
               [2026-01-01 00:00:00.000][1][info][wasm] [c.cc:1] wasm log: ready: go\n\
               [2026-01-01 00:00:00.000][1][warning][wasm] [c.cc:1] wasm log default/a: odd\n\
               [2026-01-01 00:00:00.000][1][error][main] [c.cc:1] no wasm log: here\n\
               wasm log: neither\n";
    let expected = [line("info", false, "ready: go"), line("warning", true, "odd")];
    assert_eq!(PluginLine::all(log), expected);
}
