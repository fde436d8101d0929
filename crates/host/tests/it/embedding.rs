//! What an embedder sees of VMs and plugins beside their callbacks.

use std::cell::Cell;
use std::rc::Rc;

use wasmplug_host::abi::Status;
use wasmplug_host::{
    CompiledModule, FailureKind, Fields, LifeSpan, NoServices, Plugin, PluginConfig, PropertyValue,
    StreamHost,
};

use crate::harness::{Transcript, assemble, host, start};

/// Counts how often it is woken.
#[derive(Default)]
pub(crate) struct Sleeper(Cell<u32>);

impl StreamHost for Sleeper {
    fn property(&self, _path: &[&[u8]]) -> Option<PropertyValue> {
        None
    }

    fn set_property(&self, _name: &[u8], _value: &[u8], _span: LifeSpan) -> Result<(), Status> {
        Err(Status::BadArgument)
    }

    fn clear_route_cache(&self, _headers: Option<&Fields>) {}

    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

fn plugin(guest: &str) -> Plugin {
    let host = host(&Transcript::default());
    start(&host, &CompiledModule::compile(&host, &assemble(guest)).unwrap())
}

#[test]
fn the_size_of_the_memory_follows_its_growth() {
    let plugin = plugin("on tick:\n(drop (memory.grow #2))");
    assert_eq!(plugin.vm().memory_bytes(), 4 << 16);
    plugin.tick().unwrap();
    assert_eq!(plugin.vm().memory_bytes(), 6 << 16);
}

#[test]
fn a_failure_is_kept_with_all_that_is_known() {
    let plugin = plugin("on tick:\n(unreachable)");
    assert!(plugin.vm().failure().is_none());
    let failure = plugin.tick().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trap);
    assert_eq!((&*failure.plugin, failure.callback), ("p", "proxy_on_tick"));
    assert_eq!(&*failure.reason, "wasm `unreachable` instruction executed");
    let kept = plugin.vm().failure().unwrap();
    assert_eq!((kept.kind, kept.callback), (failure.kind, failure.callback));
    assert!(plugin.vm().is_failed());
}

#[test]
fn a_weak_handle_does_not_keep_a_vm_but_streams_do() {
    let plugin = plugin("");
    let weak = plugin.vm().downgrade();
    let stream = plugin.open_stream(Rc::new(Sleeper::default())).unwrap();
    drop(plugin);
    assert!(weak.upgrade().is_some());
    drop(stream);
    assert!(weak.upgrade().is_none());
}

#[test]
fn plugins_know_whether_they_share_a_vm() {
    let first = plugin("");
    let config = PluginConfig::default();
    let second = Plugin::start(first.vm(), &config, Rc::new(NoServices)).unwrap();
    assert!(first.shares_vm_with(&second));
    assert!(!first.shares_vm_with(&plugin("")));
}

#[test]
fn streams_are_woken_when_their_vm_dies_in_the_callback_of_another() {
    let plugin = plugin("on tick:\n(unreachable)");
    let sleeper = Rc::new(Sleeper::default());
    let stream = plugin.open_stream(Rc::clone(&sleeper) as Rc<dyn StreamHost>).unwrap();
    let dropped = plugin.open_stream(Rc::clone(&sleeper) as Rc<dyn StreamHost>).unwrap();
    drop(dropped);
    assert!(stream.failure().is_none());
    plugin.tick().unwrap_err();
    assert_eq!(sleeper.0.get(), 1);
    plugin.tick().unwrap_err();
    assert_eq!(sleeper.0.get(), 1);
    assert_eq!(stream.failure().unwrap().kind, FailureKind::Trap);
}

#[test]
fn one_module_serves_vms_on_many_threads() {
    let host = host(&Transcript::default());
    let module = CompiledModule::compile(&host, &assemble("on tick:\n(call $say 'x')")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| start(&host, &module).tick().unwrap());
        }
    });
}
