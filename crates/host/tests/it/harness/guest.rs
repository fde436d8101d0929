//! Turns the short notation of the tests into WebAssembly.
//!
//! A guest is written as callbacks (`on tick:`) and module fields (`module:`), each followed by
//! lines of WebAssembly text in which
//!
//! ```text
//! 'text'          is a pointer and a length of these bytes; escapes as in WebAssembly text
//! #5  #-1  #7L    are i32 and i64 constants
//! #request_body   is a number of the ABI, see NUMBERS
//! @out            are two addresses for a pointer and a length that a hostcall returns
//! @num            is the address for a number that a hostcall returns
//! (is CALL …)     calls a hostcall, named without `proxy_`, and logs its status
//! (got CALL …)    also logs the bytes that it returned at `@out`
//! (num CALL …)    also logs the number that it returned at `@num`
//! ```
//!
//! and in which `prelude.wat` defines how to log what happened. A first line `abi 0_1_0` declares
//! another version than 0.2.1; `no allocator` and `no memory` leave these out, and with
//! `imported memory` the memory is the host's.

use std::fmt::Write as _;

/// Callbacks: name, parameters, result if nothing is returned.
const CALLBACKS: &[(&str, &[&str], Option<u32>)] = &[
    ("_initialize", &[], None),
    ("_start", &[], None),
    ("context_create", &["parent"], None),
    ("vm_start", &["size"], Some(1)),
    ("configure", &["size"], Some(1)),
    ("tick", &[], None),
    ("request_headers", &["count", "end"], Some(0)),
    ("request_body", &["size", "end"], Some(0)),
    ("request_trailers", &["count"], Some(0)),
    ("response_headers", &["count", "end"], Some(0)),
    ("response_body", &["size", "end"], Some(0)),
    ("response_trailers", &["count"], Some(0)),
    ("log", &[], None),
    ("done", &[], Some(1)),
    ("delete", &[], None),
    ("http_call_response", &["token", "headers", "size", "trailers"], None),
    ("queue_ready", &["token"], None),
    ("request_metadata", &["count"], Some(0)),
    ("response_metadata", &["count"], Some(0)),
    ("new_connection", &[], Some(0)),
    ("downstream_data", &["size", "end"], Some(0)),
    ("upstream_data", &["size", "end"], Some(0)),
    ("downstream_connection_close", &["peer"], None),
    ("upstream_connection_close", &["peer"], None),
    ("grpc_receive_initial_metadata", &["token", "count"], None),
    ("grpc_receive", &["token", "size"], None),
    ("grpc_receive_trailing_metadata", &["token", "count"], None),
    ("grpc_close", &["token", "status"], None),
    ("foreign_function", &["function", "size"], None),
    ("envoy_on_resolve_dns", &["token", "size"], None),
    ("envoy_on_stats_update", &["size"], None),
];

/// Hostcalls and how many `i32` they take.
pub(crate) const HOSTCALLS: &[(&str, usize)] = &[
    ("proxy_log", 3),
    ("proxy_get_log_level", 1),
    ("proxy_get_status", 3),
    ("proxy_get_current_time_nanoseconds", 1),
    ("proxy_set_tick_period_milliseconds", 1),
    ("proxy_get_configuration", 2),
    ("proxy_get_property", 4),
    ("proxy_set_property", 4),
    ("proxy_get_buffer_bytes", 5),
    ("proxy_get_buffer_status", 3),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_get_header_map_size", 2),
    ("proxy_get_header_map_pairs", 3),
    ("proxy_set_header_map_pairs", 3),
    ("proxy_get_header_map_value", 5),
    ("proxy_add_header_map_value", 5),
    ("proxy_replace_header_map_value", 5),
    ("proxy_remove_header_map_value", 3),
    ("proxy_continue_request", 0),
    ("proxy_continue_response", 0),
    ("proxy_clear_route_cache", 0),
    ("proxy_continue_stream", 1),
    ("proxy_close_stream", 1),
    ("proxy_send_local_response", 8),
    ("proxy_http_call", 10),
    ("proxy_grpc_call", 12),
    ("proxy_grpc_stream", 9),
    ("proxy_grpc_send", 4),
    ("proxy_grpc_cancel", 1),
    ("proxy_grpc_close", 1),
    ("proxy_set_effective_context", 1),
    ("proxy_done", 0),
    ("proxy_get_shared_data", 5),
    ("proxy_set_shared_data", 5),
    ("proxy_register_shared_queue", 3),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_define_metric", 4),
    ("proxy_get_metric", 2),
    ("proxy_call_foreign_function", 6),
];

/// Numbers of the ABI by name. Source: Proxy-Wasm 0.2.1, enumerations.
const NUMBERS: &[(&str, &str)] = &[
    ("request_headers", "0"),
    ("request_trailers", "1"),
    ("response_headers", "2"),
    ("response_trailers", "3"),
    ("grpc_initial_metadata", "4"),
    ("grpc_trailing_metadata", "5"),
    ("call_headers", "6"),
    ("call_trailers", "7"),
    ("request_body", "0"),
    ("response_body", "1"),
    ("downstream_data", "2"),
    ("upstream_data", "3"),
    ("call_body", "4"),
    ("grpc_message", "5"),
    ("vm_configuration", "6"),
    ("plugin_configuration", "7"),
    ("call_data", "8"),
    ("request", "0"),
    ("response", "1"),
    ("downstream", "2"),
    ("upstream", "3"),
    ("counter", "0"),
    ("gauge", "1"),
    ("histogram", "2"),
    ("all", "0xffffffff"),
    ("bad", "0xfffffff0"),
];

/// Names of statuses, as the guests log them.
const STATUSES: [&str; 13] = [
    "OK",
    "NOT_FOUND",
    "BAD_ARGUMENT",
    "SERIALIZATION_FAILURE",
    "PARSE_FAILURE",
    "BAD_EXPRESSION",
    "INVALID_MEMORY_ACCESS",
    "EMPTY",
    "CAS_MISMATCH",
    "RESULT_MISMATCH",
    "INTERNAL_FAILURE",
    "BROKEN_CONNECTION",
    "UNIMPLEMENTED",
];

/// Where `'text'` goes.
const TEXT_AT: usize = 0x4000;
const MEMORY: &str = r#"(memory (export "memory") 4)"#;
const IMPORTED_MEMORY: &str = r#"(import "env" "memory" (memory 4 6))"#;
const ALLOCATOR: &str = r#"(func (export "proxy_on_memory_allocate") (param i32) (result i32)
        (call $bump (local.get 0)))"#;

/// Texts of one guest, each at its place in memory.
#[derive(Default)]
struct Texts {
    wat: String,
    len: usize,
    places: Vec<(String, usize, usize)>,
}

/// A list of pairs as hostcalls take it, in the escapes of WebAssembly text.
pub(crate) fn pairs(pairs: &[(&str, &str)]) -> String {
    let numbers = pairs.iter().flat_map(|(name, value)| [name.len(), value.len()]);
    let numbers = std::iter::once(pairs.len()).chain(numbers);
    let bytes = numbers.flat_map(|number| u32::try_from(number).unwrap().to_le_bytes());
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "\\{byte:02x}");
    }
    for (name, value) in pairs {
        let _ = write!(text, "{name}\\00{value}\\00");
    }
    text
}

/// The module as bytes.
pub(crate) fn assemble(guest: &str) -> Vec<u8> {
    let text = module_text(guest);
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn module_text(guest: &str) -> String {
    let (mut abi, mut allocator, mut memory) = ("0_2_1", ALLOCATOR, MEMORY);
    let (mut imports, mut fields) = (String::new(), String::new());
    let mut end = String::new();
    let mut is_module = false;
    for line in guest.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("on ").and_then(|rest| rest.strip_suffix(':')) {
            fields.push_str(&end);
            end = open(&mut fields, name, abi);
            is_module = false;
        } else if trimmed == "module:" {
            fields.push_str(&std::mem::take(&mut end));
            is_module = true;
        } else if let Some(version) = trimmed.strip_prefix("abi ") {
            abi = version;
        } else if trimmed == "no allocator" {
            allocator = "";
        } else if trimmed == "no memory" {
            memory = "(memory 4)";
        } else if trimmed == "imported memory" {
            memory = IMPORTED_MEMORY;
        } else if is_module && trimmed.starts_with("(import") {
            imports.push_str(trimmed);
            imports.push('\n');
        } else {
            fields.push_str(line);
            fields.push('\n');
        }
    }
    fields.push_str(&end);
    let mut texts = Texts::default();
    let fields = expand(&calls(&fields), &mut texts);
    let prelude = expand(include_str!("prelude.wat"), &mut texts);
    let status_names = status_names();
    let used = |name: &str| fields.contains(&format!("${name}")) || name == "proxy_log";
    for (name, params) in HOSTCALLS.iter().filter(|(name, _)| used(name)) {
        let params = "i32 ".repeat(*params);
        let _ = writeln!(
            imports,
            r#"(import "env" "{name}" (func ${name} (param {params}) (result i32)))"#
        );
    }
    for name in ["proxy_increment_metric", "proxy_record_metric"] {
        if used(name) {
            let _ = writeln!(
                imports,
                r#"(import "env" "{name}" (func ${name} (param i32 i64) (result i32)))"#
            );
        }
    }
    let Texts { wat: text_bytes, .. } = texts;
    format!(
        "(module {imports} {memory}\n(func (export \"proxy_abi_version_{abi}\"))\n{allocator}\n\
         {prelude}\n{fields}\n(data (i32.const {TEXT_AT}) \"{text_bytes}\")\n\
         (data (i32.const 0x200) \"{status_names}\"))"
    )
}

/// Begins a callback; returns what ends it.
fn open(fields: &mut String, name: &str, abi: &str) -> String {
    let (_, params, result) = CALLBACKS
        .iter()
        .find(|(known, ..)| *known == name)
        .unwrap_or_else(|| panic!("no callback `{name}`"));
    let is_start = name.starts_with('_');
    let prefix = if is_start || name.starts_with("envoy_") { "" } else { "proxy_on_" };
    let _ = write!(fields, "(func (export \"{prefix}{name}\")");
    if !is_start {
        fields.push_str(" (param $context i32)");
    }
    for param in params.iter().filter(|param| abi != "0_1_0" || **param != "end") {
        let _ = write!(fields, " (param ${param} i32)");
    }
    // The body callbacks had the flag from the start.
    if abi == "0_1_0" && name.ends_with("_body") {
        fields.push_str(" (param $end i32)");
    }
    fields.push_str(if result.is_some() { " (result i32)\n" } else { "\n" });
    result.map_or_else(|| ")\n".to_owned(), |result| format!("(i32.const {result}))\n"))
}

/// Replaces `(is …)`, `(got …)` and `(num …)`; the log line begins with the call as it is written.
fn calls(text: &str) -> String {
    const LOGGED: [(&str, &str); 3] = [("(is ", "is"), ("(got ", "got"), ("(num ", "got_number")];
    let mut text = text.to_owned();
    for (mark, log) in LOGGED {
        while let Some(at) = text.find(mark) {
            let start = at + mark.len();
            let end = start + closing(&text[start..]);
            let call = &text[start..end];
            let label: String = call.chars().filter(|c| !['#', '\'', '"'].contains(c)).collect();
            let label = label.replace(" @out", "").replace(" @num", "");
            let label = label.replace('\\', "\\5c");
            let label = label.split_whitespace().collect::<Vec<_>>().join(" ");
            let call = format!("(call ${log} '{label} ->' (call $proxy_{call}))");
            text.replace_range(at..=end, &call);
        }
    }
    text
}

/// Where the parenthesis that is open at the start is closed.
fn closing(text: &str) -> usize {
    let (mut depth, mut is_text) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text && depth == 0 => return at,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
    }
    panic!("nothing closes {text}")
}

/// Replaces `'…'`, `#…` and `@…`.
fn expand(text: &str, texts: &mut Texts) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '#', '@', '"', ';']) {
        out.push_str(&rest[..at]);
        let (mark, after) = rest[at..].split_at(1);
        rest = match mark {
            "\"" => {
                let end = after.find('"').expect("an end of the string") + 1;
                out.push('"');
                out.push_str(&after[..end]);
                &after[end..]
            }
            "'" => {
                let end = after.find('\'').expect("an end of the text");
                let (ptr, len) = texts.place(&after[..end]);
                let _ = write!(out, "(i32.const {ptr}) (i32.const {len})");
                &after[end + 1..]
            }
            ";" => after.find('\n').map_or("", |end| &after[end..]),
            mark => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
                out.push_str(&constant(mark, &after[..end]));
                &after[end..]
            }
        };
    }
    out.push_str(rest);
    out
}

fn constant(mark: &str, name: &str) -> String {
    match (mark, name) {
        ("@", "out") => "(i32.const 0x100) (i32.const 0x104)".to_owned(),
        ("@", "num") => "(i32.const 0x108)".to_owned(),
        ("@", other) => panic!("no place `@{other}`"),
        (_, name) => match (NUMBERS.iter().find(|(known, _)| *known == name), name) {
            (Some((_, number)), _) => format!("(i32.const {number})"),
            (None, name) => match name.strip_suffix('L') {
                Some(number) => format!("(i64.const {number})"),
                None => format!("(i32.const {name})"),
            },
        },
    }
}

fn status_names() -> String {
    STATUSES.iter().fold(String::new(), |mut names, name| {
        let padding = "\\00".repeat(23 - name.len());
        let _ = write!(names, "\\{:02x}{name}{padding}", name.len());
        names
    })
}

// === impl Texts ===

impl Texts {
    /// Pointer and length of a text given with the escapes of WebAssembly text.
    fn place(&mut self, escaped: &str) -> (usize, usize) {
        if let Some((_, ptr, len)) = self.places.iter().find(|(known, ..)| known == escaped) {
            return (*ptr, *len);
        }
        let (mut len, mut rest) = (0, escaped.as_bytes());
        while let [first, tail @ ..] = rest {
            let is_hex = tail.len() > 1 && tail[..2].iter().all(u8::is_ascii_hexdigit);
            let skipped = match (first, is_hex) {
                (b'\\', true) => 2,
                (b'\\', false) => 1,
                _ => 0,
            };
            rest = &tail[skipped..];
            len += 1;
        }
        let place = (TEXT_AT + self.len, len);
        self.wat.push_str(escaped);
        self.len += len;
        self.places.push((escaped.to_owned(), place.0, len));
        place
    }
}
