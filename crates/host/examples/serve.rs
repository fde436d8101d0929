//! Serves HTTP on plain hyper through a plugin: every request is answered with its own body.
//!
//! `cargo run -p wasmplug-host --example serve -- plugin.wasm '{"some": "configuration"}'`

#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::convert::Infallible;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use wasmplug_host::{
    BufferedStream, CompiledModule, Host, LogFields, NoServices, Plugin, PluginConfig, StreamHost,
    VmConfig, VmHandle,
};

/// Most bytes of a request that are taken.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A stream that has no attributes beyond its messages.
struct Stream;

impl StreamHost for Stream {}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which module?")?;
    let configuration = arguments.next().unwrap_or_default().into();
    let host = Arc::new(Host::new()?);
    let module = CompiledModule::compile(&host, &std::fs::read(path)?)?;
    let vm = VmHandle::start(&host, &module, VmConfig::default())?;
    let config = PluginConfig { name: "example".into(), configuration, ..PluginConfig::default() };
    let plugin = Plugin::start(&vm, &config, Rc::new(NoServices))?;
    // A VM lives on one thread, and so does everything around it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("http://{}", listener.local_addr()?);
        loop {
            let (client, _) = listener.accept().await?;
            let plugin = plugin.clone();
            let service = service_fn(move |request| answer(plugin.clone(), request));
            tokio::task::spawn_local(
                http1::Builder::new().serve_connection(TokioIo::new(client), service),
            );
        }
    })
}

/// Shows the request to the plugin, makes a response of its body, and shows that.
async fn answer(
    plugin: Plugin,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map(Collected::to_bytes);
    let stream = BufferedStream::open(&plugin, Rc::new(Stream));
    let (Ok(body), Some(mut stream)) = (body, stream) else {
        let unavailable = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
        return Ok(unavailable.body(Full::default()).unwrap_or_default());
    };
    let response = match stream.pass_request(Request::from_parts(head, body)).await {
        Ok(request) => stream.pass_response(Response::new(request.into_body())).await,
        Err(response) => response,
    };
    stream.finish(LogFields::default());
    Ok(response.map(Full::new))
}
