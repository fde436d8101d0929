//! The commands of a session.
//!
//! ```text
//! start [plugin=p vm=p vm_id= vm_config= config= root_id= env=NAME:VALUE allow=NAME,NAME
//!        metric_prefix=]
//!                                         done first if left out
//! plugin NAME | stream NAME               choose what the next commands are about
//! request[!] HEADERS                      request headers; `!` ends the message
//! body[!] TEXT | trailers TRAILERS
//! response[!] HEADERS | response-body[!] TEXT | response-trailers TRAILERS
//! release request|response                what the plugin holds goes on
//! actions                                 what the plugin asked for meanwhile
//! log [HEADERS | HEADERS | TRAILERS] | finish | drop
//! tick | queue-ready TOKEN | answer TOKEN HEADERS | BODY | TRAILERS | answer TOKEN failure
//! shut-down | is-gone | end-vm VM
//! stop-iteration | metrics | contexts | limits
//! ```
//!
//! and those in [`connections`] and [`events`].
//!
//! Like a proxy, a session takes maps and bodies out as soon as the plugin continues.

mod connections;
mod events;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use wasmplug_host::abi::{DataAction, HeadersAction, TrailersAction};
use wasmplug_host::{
    BodyBuffer, CompiledModule, Failure, Fields, FieldsKind, Host, HttpCallResponse, HttpStream,
    LimitKind, Limits, LogFields, NetworkStream, Plugin, PluginConfig, StreamActions, VmConfig,
    VmHandle,
};

use super::chain;
use super::embedder::{RecordingServices, RecordingStream, Transcript, fields_text};

/// Everything that lives while a session runs.
pub(crate) struct Session {
    host: Arc<Host>,
    module: CompiledModule,
    limits: Limits,
    transcript: Transcript,
    vms: BTreeMap<String, VmHandle>,
    plugins: BTreeMap<String, (Plugin, String)>,
    streams: BTreeMap<String, HttpStream>,
    connections: BTreeMap<String, NetworkStream>,
    properties: Rc<RefCell<BTreeMap<Vec<u8>, Vec<u8>>>>,
    plugin: String,
    stream: String,
    allow_stop_iteration: bool,
}

// === impl Session ===

impl Session {
    /// Runs all commands; returns them with what came of them.
    pub(crate) fn run(
        host: Arc<Host>,
        module: CompiledModule,
        limits: Limits,
        transcript: Transcript,
        script: &str,
    ) -> String {
        let mut session = Self {
            host,
            module,
            limits,
            transcript,
            vms: BTreeMap::new(),
            plugins: BTreeMap::new(),
            streams: BTreeMap::new(),
            connections: BTreeMap::new(),
            properties: Rc::default(),
            plugin: "p".into(),
            stream: "s".into(),
            allow_stop_iteration: false,
        };
        let commands: Vec<_> =
            script.lines().filter_map(|line| line.trim().strip_prefix("> ")).collect();
        if !commands.first().is_some_and(|command| command.starts_with("start")) {
            session.start("");
        }
        for command in commands {
            session.add(format!("> {command}"));
            session.command(command);
        }
        let lines = session.transcript.take();
        // What guests log when everything is dropped is no part of the script.
        lines.join("\n") + "\n"
    }

    fn command(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let (name, end) = verb.strip_suffix('!').map_or((verb, false), |name| (name, true));
        match name {
            "start" => self.start(rest),
            "plugin" => rest.clone_into(&mut self.plugin),
            "stream" => rest.clone_into(&mut self.stream),
            "stop-iteration" => self.allow_stop_iteration = true,
            "end-vm" => self.end_vm(rest),
            "drop" => drop(self.streams.remove(&self.stream)),
            "finish" => self.streams.remove(&self.stream).unwrap().finish(),
            "shut-down" => drop(self.current_plugin().shut_down()),
            "is-gone" => {
                let is_gone = self.current_plugin().is_gone();
                self.add(format!("= {is_gone}"));
            }
            "tick" => self.failed(self.current_plugin().tick().err()),
            "queue-ready" => {
                self.failed(self.current_plugin().on_queue_ready(rest.parse().unwrap()).err());
            }
            "answer" => self.answer(rest),
            "metrics" => {
                for (name, value) in self.host.metrics().values() {
                    self.add(format!("= {name} {value:?}"));
                }
            }
            "limits" => {
                for limit in LimitKind::ALL {
                    let count = self.host.limit_counters().get(limit);
                    if count > 0 {
                        self.add(format!("= {} {count}", limit.as_str()));
                    }
                }
            }
            "contexts" => self.add(format!("= {}", self.current_plugin().vm().contexts())),
            _ if self.event(name, rest) || self.connection_command(name, end, rest) => {}
            _ => self.stream_command(name, end, rest),
        }
    }

    fn stream_command(&mut self, name: &str, end: bool, rest: &str) {
        if !self.streams.contains_key(&self.stream) {
            let host = Rc::new(RecordingStream {
                name: self.stream.clone(),
                transcript: self.transcript.clone(),
                set: Rc::clone(&self.properties),
            });
            let Some(stream) = self.current_plugin().open_stream(host) else {
                return self.add("! no stream");
            };
            self.streams.insert(self.stream.clone(), stream);
        }
        let mut stream = self.streams.remove(&self.stream).unwrap();
        match name {
            "request" => self.request(&mut stream, rest, end),
            "body" => self.body(&mut stream, rest, end),
            "trailers" => {
                let action = stream.on_request_trailers(parse(FieldsKind::Trailers, rest));
                if self.shown(&action) == Some(&TrailersAction::Continue) {
                    self.fields("trailers", stream.release_request_trailers());
                }
            }
            "response" => self.response(&mut stream, rest, end),
            "response-body" => self.response_body(&mut stream, rest, end),
            "response-trailers" => {
                let action = stream.on_response_trailers(parse(FieldsKind::Trailers, rest));
                if self.shown(&action) == Some(&TrailersAction::Continue) {
                    self.fields("trailers", stream.release_response_trailers());
                }
            }
            "release" => self.release(&mut stream, rest),
            "log" => self.log(&mut stream, rest),
            "actions" => {}
            other => panic!("no command `{other}`"),
        }
        self.actions(stream.take_actions());
        self.streams.insert(self.stream.clone(), stream);
    }

    fn start(&mut self, settings: &str) {
        let settings: BTreeMap<_, _> =
            settings.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        let setting = |name: &str| settings.get(name).copied().unwrap_or_default().to_owned();
        let plugin = settings.get("plugin").copied().unwrap_or("p");
        let vm_name = settings.get("vm").copied().unwrap_or(plugin);
        if !self.vms.contains_key(vm_name) {
            let environment = settings.get("env").and_then(|pair| pair.split_once(':'));
            let config = VmConfig {
                vm_id: setting("vm_id"),
                configuration: setting("vm_config").into(),
                environment: environment
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .into_iter()
                    .collect(),
                limits: self.limits.clone(),
                allowed_capabilities: settings.get("allow").map(|names| {
                    let names = names.split(',').filter(|name| !name.is_empty());
                    names.map(str::to_owned).collect()
                }),
                metric_prefix: setting("metric_prefix"),
            };
            match VmHandle::start(&self.host, &self.module, config) {
                Ok(vm) => drop(self.vms.insert(vm_name.to_owned(), vm)),
                Err(error) => return self.add(format!("! {}", chain(&error))),
            }
        }
        let config = PluginConfig {
            name: plugin.to_owned(),
            root_id: setting("root_id"),
            configuration: setting("config").into(),
        };
        let (transcript, name) = (self.transcript.clone(), plugin.to_owned());
        let services = Rc::new(RecordingServices { transcript, plugin: name });
        match Plugin::start(&self.vms[vm_name], &config, services) {
            Ok(started) => {
                self.plugins.insert(plugin.to_owned(), (started, vm_name.to_owned()));
                plugin.clone_into(&mut self.plugin);
            }
            Err(error) => self.add(format!("! {}", chain(&error))),
        }
    }

    /// Drops a VM with all that lives in it.
    fn end_vm(&mut self, name: &str) {
        self.streams.clear();
        self.connections.clear();
        self.plugins.retain(|_, (_, vm)| vm != name);
        self.vms.remove(name);
    }

    fn request(&self, stream: &mut HttpStream, headers: &str, end: bool) {
        let headers = parse(FieldsKind::Request, headers);
        let action = stream.on_request_headers(headers, end, self.allow_stop_iteration);
        if self.shown(&action) == Some(&HeadersAction::Continue) {
            self.fields("headers", stream.release_request_headers());
        }
    }

    fn response(&self, stream: &mut HttpStream, headers: &str, end: bool) {
        let headers = parse(FieldsKind::Response, headers);
        let action = stream.on_response_headers(headers, end, self.allow_stop_iteration);
        if self.shown(&action) == Some(&HeadersAction::Continue) {
            self.fields("headers", stream.release_response_headers());
        }
    }

    /// Shows a chunk together with what is held, as a proxy does.
    fn body(&self, stream: &mut HttpStream, text: &str, end: bool) {
        let mut body = stream.release_request_body().unwrap_or_default();
        body.push(Bytes::copy_from_slice(text.as_bytes()));
        let action = stream.on_request_body(body, end);
        if self.shown(&action) != Some(&DataAction::StopIterationAndBuffer) {
            self.bytes(stream.release_request_body());
            self.fields("trailers", stream.release_request_trailers());
        }
    }

    fn response_body(&self, stream: &mut HttpStream, text: &str, end: bool) {
        let mut body = stream.release_response_body().unwrap_or_default();
        body.push(Bytes::copy_from_slice(text.as_bytes()));
        let action = stream.on_response_body(body, end);
        if self.shown(&action) != Some(&DataAction::StopIterationAndBuffer) {
            self.bytes(stream.release_response_body());
            self.fields("trailers", stream.release_response_trailers());
        }
    }

    fn release(&self, stream: &mut HttpStream, side: &str) {
        let (headers, body, trailers) = match side {
            "request" => (
                stream.release_request_headers(),
                stream.release_request_body(),
                stream.release_request_trailers(),
            ),
            _ => (
                stream.release_response_headers(),
                stream.release_response_body(),
                stream.release_response_trailers(),
            ),
        };
        self.fields("headers", headers);
        self.bytes(body);
        self.fields("trailers", trailers);
    }

    fn log(&self, stream: &mut HttpStream, maps: &str) {
        self.lent(stream.on_log(log_fields(maps)));
    }

    fn lent(&self, back: LogFields) {
        self.fields("request", back.request_headers);
        self.fields("response", back.response_headers);
        self.fields("trailers", back.response_trailers);
    }

    fn answer(&self, text: &str) {
        let (token, text) = text.split_once(' ').unwrap();
        let mut parts = text.split(" | ");
        let headers = parts.next().unwrap();
        let body = Bytes::copy_from_slice(parts.next().unwrap_or_default().as_bytes());
        let response = (headers != "failure").then(|| HttpCallResponse {
            headers: parse(FieldsKind::Response, headers),
            body,
            trailers: parse(FieldsKind::Trailers, parts.next().unwrap_or_default()),
        });
        let plugin = self.current_plugin();
        self.failed(plugin.on_http_call_response(token.parse().unwrap(), response).err());
    }

    fn actions(&self, actions: StreamActions) {
        if actions.continue_request {
            self.add("+ continue request");
        }
        if actions.continue_response {
            self.add("+ continue response");
        }
        if actions.close.is_some() {
            self.add("+ close");
        }
        if let Some(reply) = actions.local_reply {
            let pair = |(name, value): &(Bytes, Bytes)| {
                format!(" {}={}", name.escape_ascii(), value.escape_ascii())
            };
            let headers: String = reply.headers.iter().map(pair).collect();
            self.add(format!(
                "+ local reply {} details {:?} body {:?} grpc {} headers{headers}",
                reply.status,
                reply.details,
                String::from_utf8_lossy(&reply.body),
                reply.grpc_status.cast_signed(),
            ));
        }
    }

    fn shown<'a, A: Debug>(&self, result: &'a Result<A, Failure>) -> Option<&'a A> {
        match result {
            Ok(action) => {
                self.add(format!("= {action:?}"));
                Some(action)
            }
            Err(failure) => {
                self.failed(Some(failure.clone()));
                None
            }
        }
    }

    fn failed(&self, failure: Option<Failure>) {
        if let Some(failure) = failure {
            self.add(format!("! {}: {failure}", failure.kind.as_str()));
        }
    }

    fn fields(&self, what: &str, fields: Option<Fields>) {
        if let Some(fields) = fields {
            let text = format!("= {what} {}", fields_text(&fields));
            self.add(text.trim_end());
        }
    }

    fn bytes(&self, body: Option<BodyBuffer>) {
        if let Some(body) = body {
            let mark = if body.is_modified() { " (modified)" } else { "" };
            let bytes = Bytes::from(body);
            let text = match bytes.len() {
                0..100 => format!("{:?}", String::from_utf8_lossy(&bytes)),
                len => format!("of {len} bytes"),
            };
            self.add(format!("= body {text}{mark}"));
        }
    }

    fn current_plugin(&self) -> &Plugin {
        &self.plugins.get(&self.plugin).expect("the plugin was started").0
    }

    fn add(&self, line: impl Into<String>) {
        self.transcript.add(line);
    }
}

/// Reads the maps of a finished stream, with ` | ` between them.
fn log_fields(maps: &str) -> LogFields {
    let mut maps = maps.split(" | ").map(str::trim);
    let mut next = |kind| maps.next().filter(|map| !map.is_empty()).map(|map| parse(kind, map));
    LogFields {
        request_headers: next(FieldsKind::Request),
        response_headers: next(FieldsKind::Response),
        response_trailers: next(FieldsKind::Trailers),
    }
}

/// Reads `name=value` pairs; `_` in a value stays, white space separates.
fn parse(kind: FieldsKind, pairs: &str) -> Fields {
    let mut fields = Fields::new(kind);
    for pair in pairs.split_whitespace() {
        let at = pair.bytes().skip(1).position(|byte| byte == b'=').unwrap() + 1;
        let (name, value) = pair.split_at(at);
        fields.add(name.as_bytes(), &value.as_bytes()[1..]).unwrap();
    }
    fields
}
