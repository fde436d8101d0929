//! Sends one request through a plugin and prints what the plugin did to it.
//!
//! `cargo run -p wasmplug-host --example one_request -- plugin.wasm '{"some": "configuration"}'`

#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use wasmplug_host::abi::{HeadersAction, LogLevel, Status};
use wasmplug_host::{
    CompiledModule, Fields, FieldsKind, Host, LifeSpan, LogFields, LogRecord, LogSink, NoServices,
    Plugin, PluginConfig, PropertyValue, Pseudo, StreamHost, VmConfig, VmHandle,
};

struct PrintLog;

impl LogSink for PrintLog {
    fn level(&self) -> LogLevel {
        LogLevel::Info
    }

    fn log(&self, record: LogRecord<'_>) {
        println!("log {:?}: {}", record.level, record.message);
    }
}

/// A stream that has one attribute and forgets what plugins set.
struct Stream;

impl StreamHost for Stream {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        (path == [b"source".as_slice(), b"address"]).then(|| PropertyValue::text("127.0.0.1:4321"))
    }

    fn set_property(&self, _name: &[u8], _value: &[u8], _span: LifeSpan) -> Result<(), Status> {
        Ok(())
    }

    fn clear_route_cache(&self, _headers: Option<&Fields>) {}

    fn wake(&self) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which module?")?;
    let configuration = arguments.next().unwrap_or_default().into();

    let host = Arc::new(Host::new()?.with_log_sink(Arc::new(PrintLog)));
    let module = CompiledModule::compile(&host, &std::fs::read(path)?)?;
    let vm = VmHandle::start(&host, &module, VmConfig::default())?;
    let config = PluginConfig { name: "example".into(), configuration, ..PluginConfig::default() };
    let plugin = Plugin::start(&vm, &config, Rc::new(NoServices))?;

    let mut headers = Fields::new(FieldsKind::Request);
    headers.set_pseudo(Pseudo::Method, HeaderValue::from_static("GET"));
    headers.set_pseudo(Pseudo::Path, HeaderValue::from_static("/"));
    headers.set_pseudo(Pseudo::Authority, HeaderValue::from_static("example.com"));
    headers.add(b"user-agent", b"one_request").map_err(|_| "an invalid header")?;

    let mut stream = plugin.open_stream(Rc::new(Stream)).ok_or("no room for a stream")?;
    let action = stream.on_request_headers(headers, true, false)?;
    let actions = stream.take_actions();
    match (actions.local_reply, action) {
        (Some(reply), _) => println!("it answers {}: {:?}", reply.status, reply.body),
        (None, HeadersAction::Continue) => println!("it passes the request on:"),
        (None, held) => println!("it holds the request: {held:?}"),
    }
    let headers = stream.release_request_headers();
    for (name, value) in headers.iter().flat_map(Fields::iter) {
        println!("  {}: {}", name.escape_ascii(), value.escape_ascii());
    }
    stream.on_log(LogFields { request_headers: headers, ..LogFields::default() });
    stream.finish();
    plugin.shut_down();
    Ok(())
}
