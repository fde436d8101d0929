//! Several VMs, many streams, and what reaches the embedder of a plugin's lines.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use wasmplug_host::abi::{HeadersAction, LogLevel};
use wasmplug_host::{
    CompiledModule, Fields, FieldsKind, Host, HttpStream, Limits, LogRecord, LogSink, NoServices,
    Plugin, PluginConfig, VmConfig, VmHandle,
};

use crate::embedding::Sleeper;
use crate::harness::{Transcript, assemble, host, patient, start};

/// Takes lines of every level.
#[derive(Clone, Default)]
struct Levels(Arc<Mutex<Vec<(LogLevel, String)>>>);

impl LogSink for Levels {
    fn level(&self) -> LogLevel {
        LogLevel::Trace
    }

    fn log(&self, record: LogRecord<'_>) {
        self.0.lock().unwrap().push((record.level, record.message.to_owned()));
    }
}

/// A plugin in a VM with these limits.
fn limited(host: &Arc<Host>, module: &CompiledModule, limits: Limits) -> Plugin {
    let vm = VmHandle::start(host, module, VmConfig { limits, ..VmConfig::default() }).unwrap();
    Plugin::start(&vm, &PluginConfig::default(), Rc::new(NoServices)).unwrap()
}

// Checks: LC-04
#[test]
fn a_configuration_may_hold_any_bytes() {
    let transcript = Transcript::default();
    let host = host(&transcript);
    let guest = "on configure:
           (call $number 'size' (local.get $size))
           (got get_buffer_bytes #plugin_configuration #0 #all @out)";
    let module = CompiledModule::compile(&host, &assemble(guest)).unwrap();
    let vm = VmHandle::start(&host, &module, VmConfig::default()).unwrap();
    let configuration = Bytes::from_static(b"\0a\0\0\xff\0");
    let config = PluginConfig { configuration, ..PluginConfig::default() };
    Plugin::start(&vm, &config, Rc::new(NoServices)).unwrap();
    let expected = r#"1: get_buffer_bytes plugin_configuration 0 all -> OK "\00a\00\00\ff\00""#;
    assert_eq!(transcript.take(), ["1: size 6", expected]);
}

// Checks: LM-02, LM-03
#[test]
fn each_vm_of_a_module_keeps_its_own_cap() {
    let transcript = Transcript::default();
    let host = host(&transcript);
    let guest = "on tick:
           (call $number 'refused' (i32.eq (memory.grow #1) #-1))";
    let module = CompiledModule::compile(&host, &assemble(guest)).unwrap();
    let cap = |pages: usize| Limits { memory_bytes: pages << 16, ..patient() };
    let plugins = [4, 4, 5].map(|pages| limited(&host, &module, cap(pages)));
    for (plugin, refused) in plugins.iter().zip([[1, 1], [1, 1], [0, 1]]) {
        for refused in refused {
            plugin.tick().unwrap();
            assert_eq!(transcript.take(), [format!("1: refused {refused}")]);
        }
    }
}

// Checks: SE-01
#[test]
fn a_context_of_another_vm_cannot_be_effective() {
    let transcript = Transcript::default();
    let host = host(&transcript);
    let guest = "on tick:
           (is set_effective_context #2)
           (is set_effective_context #3)";
    let module = CompiledModule::compile(&host, &assemble(guest)).unwrap();
    let [first, second] = [start(&host, &module), start(&host, &module)];
    let open = |plugin: &Plugin| {
        let mut stream = plugin.open_stream(Rc::new(Sleeper::default())).unwrap();
        stream.on_request_headers(Fields::new(FieldsKind::Request), false, false).unwrap();
        stream
    };
    let _streams = [open(&first), open(&first), open(&second)];
    second.tick().unwrap();
    let own_alone =
        ["1: set_effective_context 2 -> OK", "1: set_effective_context 3 -> BAD_ARGUMENT"];
    assert_eq!(transcript.take(), own_alone);
    first.tick().unwrap();
    assert_eq!(transcript.take()[1], "1: set_effective_context 3 -> OK");
}

// Checks: LM-08
#[test]
fn ten_thousand_held_streams_are_all_let_go() {
    const STREAMS: usize = 10_000;
    let host = host(&Transcript::default());
    let module = assemble(
        "module:
           (global $next (mut i32) #2)
         on request_headers:
           (return #1)
         on tick:
           (loop $again
             (if (i32.eqz (call $proxy_set_effective_context (global.get $next))) (then
               (drop (call $proxy_continue_stream #request))
               (global.set $next (i32.add (global.get $next) #1))
               (br $again))))",
    );
    let plugin = start(&host, &CompiledModule::compile(&host, &module).unwrap());
    let held = || {
        let mut stream = plugin.open_stream(Rc::new(Sleeper::default())).unwrap();
        let headers = Fields::new(FieldsKind::Request);
        let action = stream.on_request_headers(headers, false, false).unwrap();
        assert_eq!(action, HeadersAction::StopAllIterationAndWatermark);
        stream
    };
    let mut streams: Vec<_> = (0..STREAMS).map(|_| held()).collect();
    assert_eq!(plugin.vm().contexts(), STREAMS + 1);
    let memory = plugin.vm().memory_bytes();
    plugin.tick().unwrap();
    for stream in &mut streams {
        assert!(stream.take_actions().continue_request);
        assert!(stream.release_request_headers().is_some());
    }
    streams.into_iter().for_each(HttpStream::finish);
    assert_eq!((plugin.vm().contexts(), plugin.vm().memory_bytes()), (1, memory));
}

// Checks: LG-01
#[test]
fn each_level_of_a_line_reaches_the_sink() {
    let levels = Levels::default();
    let host = Arc::new(Host::new().unwrap().with_log_sink(Arc::new(levels.clone())));
    let guest = "on tick:
           (drop (call $proxy_log #0 'trace'))
           (drop (call $proxy_log #1 'debug'))
           (drop (call $proxy_log #2 'info'))
           (drop (call $proxy_log #3 'warn'))
           (drop (call $proxy_log #4 'error'))
           (drop (call $proxy_log #5 'critical'))
           (drop (call $proxy_log #6 'none'))";
    let module = CompiledModule::compile(&host, &assemble(guest)).unwrap();
    start(&host, &module).tick().unwrap();
    let logged = levels.0.lock().unwrap();
    assert_eq!(logged.len(), 6);
    for (level, message) in &*logged {
        assert_eq!(format!("{level:?}").to_lowercase(), *message);
    }
}
