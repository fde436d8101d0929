//! Any sequence of hostcalls with any arguments, in any order of callbacks: no panic, no hang, no
//! status that the specification does not know.
//!
//! The guest interprets the second half of the input as calls, one callback after the other. The
//! first half says what the embedder does.

#![no_main]

#[expect(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../crates/host/tests/it/harness/guest.rs"]
mod guest;
mod embedder;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use wasmplug_host::{CompiledModule, Host, Limits, VmConfig, VmHandle};

use self::embedder::Session;

/// Numbers at which something may overflow, and such that mean something.
const NUMBERS: [u32; 16] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 0x100, 0x4000, 0x1_0000, 0x3_fffc, 0x4_0000, 0x7fff_ffff, u32::MAX,
];
/// Where they stand in the guest's memory.
const NUMBERS_AT: u32 = 0x800;
/// Most calls of one callback.
const MAX_CALLS: u32 = 64;

static HOST: LazyLock<Arc<Host>> = LazyLock::new(|| Arc::new(Host::new().expect("an engine")));
static MODULE: LazyLock<CompiledModule> = LazyLock::new(|| {
    let module = guest::assemble(&interpreter());
    CompiledModule::compile(&HOST, &module).expect("a guest of our own loads")
});

fuzz_target!(|input: &[u8]| {
    let (steps, program) = input.split_at(input.len() / 2);
    let config = VmConfig {
        configuration: program.to_vec().into(),
        limits: limits(),
        ..VmConfig::default()
    };
    let Ok(vm) = VmHandle::start(&HOST, &MODULE, config) else { return };
    Session::new(&vm).run(steps);
    if let Some(failure) = vm.failure() {
        // The guest gives up by itself only at a status that does not exist.
        assert!(!failure.reason.contains("unreachable"), "{failure}");
    }
});

/// Small, so that they are met.
fn limits() -> Limits {
    Limits {
        callback_deadline: Duration::from_secs(5),
        start_deadline: Duration::from_secs(5),
        memory_bytes: 1 << 20,
        contexts: 8,
        shared_data_entry_bytes: 4096,
        shared_data_keys: 16,
        shared_data_bytes: 64 << 10,
        queues: 4,
        queue_items: 16,
        queue_bytes: 64 << 10,
        metrics: 16,
        expressions: 4,
        ..Limits::default()
    }
}

/// A guest that calls what its VM configuration says.
fn interpreter() -> String {
    let mut text = String::from(
        "module:
           (global $fuzz_pc (mut i32) (i32.const 0))
           (global $fuzz_end (mut i32) (i32.const 0))
           (func $fuzz_byte (result i32)
             (if (i32.ge_u (global.get $fuzz_pc) (global.get $fuzz_end)) (then (return (i32.const 255))))
             (global.set $fuzz_pc (i32.add (global.get $fuzz_pc) (i32.const 1)))
             (i32.load8_u (i32.sub (global.get $fuzz_pc) (i32.const 1))))
           (func $fuzz_legal (param $status i32)
             (if (i32.gt_u (local.get $status) (i32.const 12)) (then (unreachable))))\n",
    );
    let _ = write!(
        text,
        "(func $fuzz_arg (result i32) (local $kind i32)
           (local.set $kind (call $fuzz_byte))
           (if (i32.lt_u (local.get $kind) (i32.const 128))
             (then (return (i32.load (i32.add (i32.const {NUMBERS_AT})
               (i32.shl (i32.and (local.get $kind) (i32.const 15)) (i32.const 2)))))))
           (i32.or (i32.shl (call $fuzz_byte) (i32.const 8)) (call $fuzz_byte)))
         (func $fuzz_run (local $op i32) (local $calls i32)
           (loop $again
             (local.set $calls (i32.add (local.get $calls) (i32.const 1)))
             (if (i32.gt_u (local.get $calls) (i32.const {MAX_CALLS})) (then (return)))
             (local.set $op (call $fuzz_byte))\n",
    );
    for (index, (name, params)) in guest::HOSTCALLS.iter().enumerate() {
        let arguments = "(call $fuzz_arg) ".repeat(*params);
        let _ = writeln!(
            text,
            "(if (i32.eq (local.get $op) (i32.const {index}))
               (then (call $fuzz_legal (call ${name} {arguments})) (br $again)))"
        );
    }
    text.push_str("(if (i32.ne (local.get $op) (i32.const 255)) (then (br $again)))))\n");
    for (index, number) in NUMBERS.iter().enumerate() {
        let at = NUMBERS_AT + 4 * u32::try_from(index).expect("few numbers");
        let bytes = number.to_le_bytes().map(|byte| format!("\\{byte:02x}")).concat();
        let _ = writeln!(text, "(data (i32.const {at}) \"{bytes}\")");
    }
    // The program comes as the VM's configuration.
    text.push_str(
        "on context_create:
           (if (i32.eqz (local.get $parent)) (then
             (drop (call $proxy_get_buffer_bytes (i32.const 6) (i32.const 0) (i32.const -1)
               (i32.const 0x100) (i32.const 0x104)))
             (global.set $fuzz_pc (i32.load (i32.const 0x100)))
             (global.set $fuzz_end (i32.add (global.get $fuzz_pc) (i32.load (i32.const 0x104))))))\n",
    );
    for callback in [
        "configure", "tick", "request_headers", "request_body", "request_trailers",
        "response_headers", "response_body", "response_trailers", "http_call_response",
        "queue_ready", "log", "done", "delete",
    ] {
        let _ = writeln!(text, "on {callback}:\n(call $fuzz_run)");
    }
    text
}
