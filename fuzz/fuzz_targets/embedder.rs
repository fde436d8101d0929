//! An embedder that does what a row of bytes says.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use wasmplug_host::abi::{PeerType, Status};
use wasmplug_host::{
    BodyBuffer, Fields, FieldsKind, GrpcCall, GrpcStatus, GrpcTarget, HttpCall, HttpCallResponse,
    HttpStream, LifeSpan, LogFields, NetworkStream, Plugin, PluginConfig, PluginServices,
    PropertyValue, StreamHost, VmHandle,
};

/// Most streams at one time.
const MAX_STREAMS: usize = 4;

/// One plugin, its streams and the calls that wait for an answer.
pub(crate) struct Session {
    plugin: Option<Plugin>,
    services: Rc<Services>,
    streams: Vec<HttpStream>,
    connections: Vec<NetworkStream>,
}

/// Takes every call.
#[derive(Default)]
struct Services {
    tokens: RefCell<Vec<u32>>,
}

struct Stream;

// === impl Session ===

impl Session {
    pub(crate) fn new(vm: &VmHandle) -> Self {
        let services = Rc::new(Services::default());
        let config = PluginConfig { name: "fuzz".into(), ..PluginConfig::default() };
        let plugin = Plugin::start(vm, &config, Rc::clone(&services) as Rc<dyn PluginServices>);
        let (streams, connections) = (Vec::new(), Vec::new());
        Self { plugin: plugin.ok(), services, streams, connections }
    }

    pub(crate) fn run(mut self, steps: &[u8]) {
        for step in steps {
            let (kind, choice) = (step & 31, usize::from(step >> 5));
            self.step(kind, choice);
        }
        self.streams.drain(..).for_each(|mut stream| {
            stream.on_log(LogFields::default());
            stream.finish();
        });
        self.connections.drain(..).for_each(NetworkStream::finish);
        if let Some(plugin) = &self.plugin {
            plugin.shut_down();
        }
    }

    fn step(&mut self, kind: u8, choice: usize) {
        let Some(plugin) = &self.plugin else { return };
        match kind {
            0 if self.streams.len() < MAX_STREAMS => {
                self.streams.extend(plugin.open_stream(Rc::new(Stream)));
            }
            1 if self.connections.len() < MAX_STREAMS => {
                self.connections.extend(plugin.open_connection(Rc::new(Stream)));
            }
            2 => drop(plugin.tick()),
            3 => drop(plugin.on_queue_ready(1)),
            4 => self.answer(|token| plugin.on_http_call_response(token, Some(response()))),
            5 => self.answer(|token| plugin.on_http_call_response(token, None)),
            6 => self.answer(|token| plugin.on_grpc_receive(token, Bytes::from_static(b"m"))),
            7 => self.answer(|token| {
                plugin.on_grpc_receive_initial_metadata(token, fields(FieldsKind::Response))
            }),
            8 => self.answer(|token| plugin.on_grpc_close(token, &GrpcStatus::new(7, "no"))),
            9..25 => self.stream_step(kind, choice),
            _ => self.connection_step(kind, choice),
        }
    }

    fn answer<T>(&self, answer: impl FnOnce(u32) -> T) {
        let token = self.services.tokens.borrow_mut().pop();
        if let Some(token) = token {
            drop(answer(token));
        }
    }

    fn stream_step(&mut self, kind: u8, choice: usize) {
        let count = self.streams.len().max(1);
        let Some(stream) = self.streams.get_mut(choice % count) else { return };
        let body = || BodyBuffer::from(Bytes::from_static(b"some bytes of a body"));
        match kind {
            9 => drop(stream.on_request_headers(fields(FieldsKind::Request), choice > 3, true)),
            10 => drop(stream.on_request_body(body(), choice > 3)),
            11 => drop(stream.on_request_trailers(fields(FieldsKind::Trailers))),
            12 => drop(stream.on_response_headers(fields(FieldsKind::Response), choice > 3, true)),
            13 => drop(stream.on_response_body(body(), choice > 3)),
            14 => drop(stream.on_response_trailers(fields(FieldsKind::Trailers))),
            15 => drop(stream.take_actions()),
            16 => drop(stream.release_request_headers()),
            17 => drop(stream.release_request_body()),
            18 => drop(stream.release_request_trailers()),
            19 => drop(stream.release_response_headers()),
            20 => drop(stream.release_response_body()),
            21 => drop(stream.release_response_trailers()),
            22 => drop(stream.on_log(LogFields {
                request_headers: Some(fields(FieldsKind::Request)),
                ..LogFields::default()
            })),
            23 => self.streams.remove(choice % count).finish(),
            _ => drop(self.streams.remove(choice % count)),
        }
    }

    fn connection_step(&mut self, kind: u8, choice: usize) {
        let count = self.connections.len().max(1);
        let Some(connection) = self.connections.get_mut(choice % count) else { return };
        let bytes = || BodyBuffer::from(Bytes::from_static(b"bytes of a connection"));
        match kind {
            25 => drop(connection.on_new_connection()),
            26 => drop(connection.on_downstream_data(bytes(), choice > 3)),
            27 => drop(connection.on_upstream_data(bytes(), choice > 3)),
            28 => drop(connection.on_downstream_close(PeerType::Remote)),
            29 => drop(connection.take_actions()),
            30 => drop(connection.release_downstream_data()),
            _ => self.connections.remove(choice % count).finish(),
        }
    }
}

fn fields(kind: FieldsKind) -> Fields {
    let mut fields = Fields::new(kind);
    for (name, value) in [(":path", "/a?b"), (":status", "200"), ("x-a", "1"), ("cookie", "c")] {
        // What does not belong to this kind is left out.
        let _ = fields.add(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn response() -> HttpCallResponse {
    HttpCallResponse {
        headers: fields(FieldsKind::Response),
        body: Bytes::from_static(b"answer"),
        trailers: fields(FieldsKind::Trailers),
    }
}

impl PluginServices for Services {
    fn http_call(&self, call: HttpCall) -> Result<(), Status> {
        self.tokens.borrow_mut().push(call.token);
        Ok(())
    }

    fn grpc_call(&self, call: GrpcCall) -> Result<(), Status> {
        self.tokens.borrow_mut().push(call.token);
        Ok(())
    }

    fn grpc_stream(&self, token: u32, _target: GrpcTarget) -> Result<(), Status> {
        self.tokens.borrow_mut().push(token);
        Ok(())
    }

    fn grpc_send(&self, _token: u32, _message: Bytes, _end: bool) -> Result<(), Status> {
        Ok(())
    }
}

impl StreamHost for Stream {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        (path.len() == 2).then(|| PropertyValue::text("value"))
    }

    fn set_property(&self, _: &[u8], _: &[u8], _: LifeSpan) -> Result<(), Status> {
        Ok(())
    }

    fn clear_route_cache(&self, _: Option<&Fields>) {}

    fn wake(&self) {}
}
