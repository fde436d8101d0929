//! Turns the short notation of the tests into a plugin.
//!
//! A guest is a row of callbacks (`on request_headers:`), each followed by WebAssembly text in
//! which
//!
//! ```text
//! 'text'       is a pointer and a length of these bytes; escapes as in WebAssembly text
//! {a: b; c: d} is a pointer and a length of these pairs as the ABI writes them
//! #5  #pause   are constants, see NUMBERS
//! ```
//!
//! and in which `prelude.wat` defines calls that drop statuses and return texts. A callback that
//! does not return says 0 (or, where it answers yes or no, 1). Before the first callback stand
//! other fields of the module; lines that begin with `(import` are moved to where imports belong.

use std::fmt::Write as _;

/// Callbacks: name, parameters, result if nothing is returned.
const CALLBACKS: &[(&str, &[&str], Option<u32>)] = &[
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
    ("http_call_response", &["token", "headers", "size", "trailers"], None),
    ("queue_ready", &["token"], None),
    ("log", &[], None),
    ("done", &[], Some(1)),
    ("delete", &[], None),
    ("new_connection", &[], Some(0)),
    ("downstream_data", &["size", "end"], Some(0)),
    ("upstream_data", &["size", "end"], Some(0)),
    ("downstream_connection_close", &["peer"], None),
    ("upstream_connection_close", &["peer"], None),
    ("grpc_receive_initial_metadata", &["token", "count"], None),
    ("grpc_receive", &["token", "size"], None),
    ("grpc_receive_trailing_metadata", &["token", "count"], None),
    ("grpc_close", &["token", "status"], None),
];

/// Numbers of the ABI by name. Source: Proxy-Wasm 0.2.1, enumerations.
const NUMBERS: &[(&str, &str)] = &[
    ("request", "0"),
    ("request_trailers", "1"),
    ("response", "2"),
    ("response_trailers", "3"),
    ("call_response", "6"),
    ("call_body", "4"),
    ("counter", "0"),
    ("gauge", "1"),
    ("histogram", "2"),
    ("downstream", "2"),
    ("upstream", "3"),
    ("pause", "1"),
    ("buffer", "1"),
    ("all_and_buffer", "3"),
    ("all_and_watermark", "4"),
    ("watermark", "2"),
    ("no_buffer", "3"),
    ("all", "0xffffffff"),
];

/// Where texts go.
const TEXTS_AT: usize = 0x4000;

/// Bytes that the guest has at hand.
#[derive(Default)]
struct Texts {
    wat: String,
    len: usize,
}

/// The module as bytes.
pub(crate) fn assemble(guest: &str) -> Vec<u8> {
    let text = module_text(guest);
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn module_text(guest: &str) -> String {
    let (mut imports, mut fields) = (String::new(), String::new());
    let mut end = String::new();
    for line in guest.lines() {
        match line.trim().strip_prefix("on ").and_then(|rest| rest.strip_suffix(':')) {
            None if line.trim().starts_with("(import") => {
                imports.push_str(line);
                imports.push('\n');
            }
            Some(name) => {
                fields.push_str(&end);
                end = begin(&mut fields, name);
            }
            None => {
                fields.push_str(line);
                fields.push('\n');
            }
        }
    }
    fields.push_str(&end);
    let mut texts = Texts::default();
    let fields = expand(&fields, &mut texts);
    let prelude = expand(include_str!("prelude.wat"), &mut texts);
    let texts = texts.wat;
    format!("(module {imports}{prelude}\n{fields}\n(data (i32.const {TEXTS_AT}) \"{texts}\"))")
}

/// Begins a callback; returns what ends it.
fn begin(fields: &mut String, name: &str) -> String {
    let known = CALLBACKS.iter().find(|(known, ..)| *known == name);
    let (_, params, result) = known.unwrap_or_else(|| panic!("no callback `{name}`"));
    let _ = write!(fields, "(func (export \"proxy_on_{name}\") (param $context i32)");
    for param in *params {
        let _ = write!(fields, " (param ${param} i32)");
    }
    fields.push_str(if result.is_some() { " (result i32)\n" } else { "\n" });
    result.map_or_else(|| ")\n".to_owned(), |result| format!("(i32.const {result}))\n"))
}

/// Replaces `'…'`, `{…}` and `#…`.
fn expand(text: &str, texts: &mut Texts) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '{', '#', '"', ';']) {
        out.push_str(&rest[..at]);
        let (mark, after) = rest[at..].split_at(1);
        let until = |end: char| after.split_once(end).unwrap_or_else(|| panic!("no `{end}`"));
        rest = match mark {
            "\"" => {
                let (string, rest) = until('"');
                let _ = write!(out, "\"{string}\"");
                rest
            }
            "'" => {
                let (text, rest) = until('\'');
                out.push_str(&texts.place(text));
                rest
            }
            "{" => {
                let (list, rest) = until('}');
                out.push_str(&texts.place(&pairs(list)));
                rest
            }
            ";" => after.find('\n').map_or("", |end| &after[end..]),
            _ => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
                let (name, rest) = after.split_at(end);
                let number = NUMBERS.iter().find(|(known, _)| *known == name);
                let number = number.map_or(name, |(_, number)| number);
                let _ = write!(out, "(i32.const {number})");
                rest
            }
        };
    }
    out.push_str(rest);
    out
}

/// Pairs as the ABI writes them, in the escapes of WebAssembly text.
fn pairs(list: &str) -> String {
    let pairs: Vec<(&str, &str)> = list
        .split(';')
        .map(|pair| pair.trim().split_once(": ").unwrap_or_else(|| panic!("no pair: {pair}")))
        .collect();
    let mut bytes = Vec::new();
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    bytes.extend(number(pairs.len()));
    for (name, value) in &pairs {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for (name, value) in &pairs {
        bytes.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

// === impl Texts ===

impl Texts {
    /// Pointer and length of a text given with the escapes of WebAssembly text.
    fn place(&mut self, escaped: &str) -> String {
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
        let at = TEXTS_AT + self.len;
        self.wat.push_str(escaped);
        self.len += len;
        format!("(i32.const {at}) (i32.const {len})")
    }
}
