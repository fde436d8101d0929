//! Any bytes of a client, through a plugin, to an upstream that reads them strictly: no panic, no
//! hang, and every request that arrives is one that the plugin saw, as the plugin saw it.
//!
//! The first byte of the input chooses the protocol. The plugin gives each request a number that
//! nobody can guess, and says which method, path and host it saw; a request that the client smuggled
//! past it has no such number, or one that was there already.

#![no_main]

mod strict;

#[expect(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../crates/proxy/tests/it/harness/guest.rs"]
mod guest;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use wasmplug_api::{Workload, WorkloadRole, parse_file, plan};
use wasmplug_host::{Host, Limits};
use wasmplug_module::{ModuleStore, StoreOptions};
use wasmplug_proxy::{Proxy, ProxyConfig, PullOptions, SnapshotBuilder};

/// What a client of HTTP/2 says first, and settings that change nothing.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How long a connection may take that the client has closed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy in this process.
struct Rig {
    address: SocketAddr,
    _proxy: Proxy,
    _folder: TempDir,
}

static RIG: LazyLock<Rig> = LazyLock::new(Rig::start);

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let mut client = TcpStream::connect(RIG.address).expect("the proxy listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    client.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // The proxy may refuse the rest; that is seen by what it answers.
    if first & 1 == 1 {
        let _ = client.write_all(HTTP2);
    }
    let _ = client.write_all(bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut scratch = [0; 4096];
    loop {
        match client.read(&mut scratch) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection hangs");
            }
            // A reset.
            Err(_) => return,
        }
    }
});

impl Rig {
    fn start() -> Self {
        let nonce = format!("{:016x}-", fastrand::u64(..));
        let upstream = strict::start(nonce.clone());
        let folder = TempDir::new().expect("a folder");
        let module = folder.path().join("marks.wasm");
        std::fs::write(&module, guest::assemble(&marks(&nonce))).expect("a file");
        let manifest = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\n\
             metadata: {{name: marks, namespace: default}}\nspec: {{url: 'file://{}'}}\n",
            module.display()
        );
        let parsed = parse_file("fuzz.yaml", &manifest);
        let workload = Workload::new("default", WorkloadRole::SidecarInbound);
        let plan = plan(&parsed.resources, &workload);
        let host = Arc::new(Host::new().expect("an engine"));
        let store = StoreOptions::new(folder.path().join("cache"));
        let store = Arc::new(ModuleStore::open(store).expect("a store"));
        let mut builder = SnapshotBuilder::new(Arc::clone(&host), store, limits(), HashMap::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let proxy = Proxy::start(ProxyConfig::new(upstream.into()), host).expect("a proxy");
        runtime.expect("a runtime").block_on(async {
            let snapshot = builder.build(&plan, &PullOptions::default()).await;
            assert!(snapshot.rejected.is_empty(), "{:?}", snapshot.rejected);
            proxy.apply(snapshot).await;
        });
        Self { address: proxy.listen_address(), _proxy: proxy, _folder: folder }
    }
}

/// A fuzzer slows everything down.
fn limits() -> Limits {
    Limits {
        callback_deadline: Duration::from_secs(10),
        start_deadline: Duration::from_secs(60),
        ..Limits::default()
    }
}

/// Numbers requests, says what it saw of them, and holds some bodies.
fn marks(nonce: &str) -> String {
    format!(
        "on request_headers:
            (call $replace #request 'x-seen-method' (call $get #request ':method'))
            (call $replace #request 'x-seen-path' (call $get #request ':path'))
            (call $replace #request 'x-seen-host' (call $get #request ':authority'))
            (call $replace #request 'x-nonce' '{nonce}')
            (call $replace #request 'x-number' (call $decimal (call $count)))
            (if (i32.and (global.get $counted) (i32.const 1))
                (then (call $hold (local.get $context))))
        on request_body:
            (if (i32.eqz (local.get $end)) (then
                (return (i32.and (global.get $counted) (i32.const 1)))))
        on request_trailers:
        on response_headers:
            (call $add #response 'x-plugin' '1')
        on response_body:"
    )
}
