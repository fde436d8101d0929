//! The wasmtime engine as this host uses it, and the ticker behind its deadlines.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use wasmtime::{Config, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::error::LoadError;
use crate::limits::EPOCH_PERIOD;

/// Most VMs that live at one time in a process.
///
/// Source: ours. Every worker has one VM per distinct module and environment, and during an update
/// two generations; 1024 slots reserve address space only.
const MAX_VMS: u32 = 1024;
/// Size of one instance's own structures; a Go module with 10 000 functions needs about 200 KiB.
const MAX_INSTANCE_BYTES: usize = 4 << 20;
/// Upper bound of [`crate::Limits::table_elements`].
const MAX_TABLE_ELEMENTS: usize = 1 << 20;

/// Compiles modules and keeps deadlines. One per process; clones share it.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: wasmtime::Engine,
    _ticker: Arc<Ticker>,
}

/// Advances the epoch until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Engine ===

impl Engine {
    /// Sets the engine up and starts its ticker thread.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if the machine lacks what wasmtime needs.
    pub fn new() -> Result<Self, LoadError> {
        let inner = wasmtime::Engine::new(&config(pooling()))
            // A small address space (a container's limit) has no room for the pool.
            .or_else(|_| wasmtime::Engine::new(&config(InstanceAllocationStrategy::OnDemand)))
            .map_err(LoadError::Engine)?;
        let ticker =
            Arc::new(Ticker::start(inner.weak()).map_err(|error| LoadError::Engine(error.into()))?);
        Ok(Self { inner, _ticker: ticker })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

// === impl Ticker ===

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("wasm-epoch".into()).spawn(move || {
            while stopped.recv_timeout(EPOCH_PERIOD) == Err(RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the ticker has nothing to tell that its message has not told.
            let _ = thread.join();
        }
    }
}

fn config(allocation: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    // Plugins run a million times and are compiled once.
    config.cranelift_opt_level(OptLevel::Speed);
    // Deadlines: a check at loop heads and function entries costs less than fuel.
    config.epoch_interruption(true);
    // A VM starts as a copy-on-write image of its data segments.
    config.memory_init_cow(true);
    config.parallel_compilation(true);
    config.allocation_strategy(allocation);
    config
}

fn pooling() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(MAX_VMS)
        .total_memories(MAX_VMS)
        .total_tables(MAX_VMS.saturating_mul(2))
        .max_memories_per_module(1)
        .max_tables_per_module(4)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(1 << 32);
    InstanceAllocationStrategy::Pooling(pool)
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use wasmtime::{Instance, Module, Store};

    use super::*;

    fn pooled() -> wasmtime::Engine {
        wasmtime::Engine::new(&config(pooling())).unwrap()
    }

    /// Compiles and instantiates a module; the store keeps the instance.
    fn instance(
        engine: &wasmtime::Engine,
        module: impl AsRef<[u8]>,
    ) -> wasmtime::Result<Store<()>> {
        // Text or bytes.
        let module = Module::new(engine, wat::parse_bytes(module.as_ref())?)?;
        let mut store = Store::new(engine, ());
        Instance::new(&mut store, &module, &[])?;
        Ok(store)
    }

    /// Whether a module is within the bounds of the pool; what is not is refused for that reason.
    fn fits(module: impl AsRef<[u8]>) -> bool {
        match instance(&pooled(), module) {
            Ok(_) => true,
            Err(error) => {
                let text = format!("{error:#}");
                assert!(text.contains("limit") || text.contains("exceeds"), "{text}");
                false
            }
        }
    }

    /// A module with so many globals, each of which takes 16 bytes of an instance's structures.
    fn with_globals(count: u32) -> Vec<u8> {
        fn leb128(mut number: u32) -> Vec<u8> {
            let mut bytes = Vec::new();
            while number >= 0x80 {
                bytes.push(number.to_le_bytes()[0] | 0x80);
                number >>= 7;
            }
            bytes.push(number.to_le_bytes()[0]);
            bytes
        }
        let number = leb128(count);
        // An `i32` that does not change and begins as 0.
        let global = [0x7f, 0x00, 0x41, 0x00, 0x0b];
        let section_len = leb128(u32::try_from(number.len()).unwrap() + 5 * count);
        let mut module = b"\0asm\x01\0\0\0\x06".to_vec();
        module.extend([section_len, number].concat());
        repeat_n(global, count as usize).for_each(|global| module.extend(global));
        module
    }

    #[test]
    fn vms_of_a_process_are_bounded_and_one_that_ends_makes_room() {
        let engine = pooled();
        let text = "(module (memory 1))";
        let mut stores: Vec<_> = (0..MAX_VMS).map(|_| instance(&engine, text).unwrap()).collect();
        let error = instance(&engine, text).map(drop).unwrap_err();
        assert!(format!("{error:#}").contains("maximum concurrent"), "{error:#}");
        stores.pop();
        assert!(instance(&engine, text).is_ok());
    }

    #[test]
    fn a_module_has_one_memory_and_four_tables_at_most() {
        assert!(fits("(module (memory 1))"));
        assert!(!fits("(module (memory 1) (memory 1))"));
        let tables = |count| format!("(module {})", "(table 1 funcref)".repeat(count));
        assert!(fits(tables(4)));
        assert!(!fits(tables(5)));
    }

    #[test]
    fn a_table_begins_with_no_more_elements_than_the_pool_has() {
        let table = |elements| format!("(module (table {elements} funcref))");
        assert!(fits(table(MAX_TABLE_ELEMENTS)));
        assert!(!fits(table(MAX_TABLE_ELEMENTS + 1)));
    }

    #[test]
    fn the_structures_of_an_instance_are_bounded() {
        let most = u32::try_from(MAX_INSTANCE_BYTES / 16).unwrap();
        assert!(fits(with_globals(most - 1000)));
        assert!(!fits(with_globals(most)));
    }
}
