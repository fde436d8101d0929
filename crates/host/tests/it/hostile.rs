//! Guests that call everything with anything.

use std::fmt::Write as _;

use crate::harness::{HOSTCALLS, outcome, patient};

/// Numbers at which something may overflow, and such that mean something.
const NUMBERS: [u32; 16] = [
    0,
    1,
    2,
    3,
    4,
    7,
    200,
    0x100,
    0x4000,
    0xffff,
    0x3_fffc,
    0x3_ffff,
    0x4_0000,
    0x7fff_ffff,
    0xffff_fff0,
    u32::MAX,
];

/// The same numbers every time, in no order.
struct Arguments(u64);

impl Arguments {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        NUMBERS[usize::try_from(self.0 >> 60).unwrap()]
    }
}

/// Calls every hostcall this often.
const CALLS: usize = 20;

/// A guest whose every callback makes these calls and gives up at a status that does not exist.
fn guest(seed: u64) -> String {
    let mut arguments = Arguments(seed);
    let mut guest = String::from(
        "module:
           (func $legal (param $status i32)
             (if (i32.gt_u (local.get $status) #12) (then (unreachable))))
           (func $everything\n",
    );
    for (name, params) in HOSTCALLS {
        for _ in 0..CALLS {
            let _ = write!(guest, "(call $legal (call ${name}");
            for _ in 0..*params {
                let _ = write!(guest, " (i32.const {})", arguments.next());
            }
            guest.push_str("))\n");
        }
    }
    guest.push_str(")\n");
    for callback in ["configure", "tick", "request_headers", "request_body", "log", "delete"] {
        // The allocator begins anew, so that it does not run out.
        let _ = writeln!(guest, "on {callback}:\n(global.set $heap #0x10000)\n(call $everything)");
    }
    guest
}

// Checks: SE-03
#[test]
fn no_arguments_of_a_hostcall_end_the_vm_or_the_process() {
    let script = "> tick\n> request :path=/ a=1\n> body! text\n> log a=1\n> finish\n> tick";
    for seed in 1..3 {
        let outcome = outcome(patient(), &guest(seed), script);
        let died = outcome.lines().find(|line| line.contains(" failed in "));
        assert_eq!(died, None, "seed {seed}");
        assert!(outcome.contains("\n> finish\n"), "seed {seed}");
    }
}

#[test]
fn a_status_that_does_not_exist_would_be_noticed() {
    let guest = guest(1).replace("#12", "#0");
    let outcome = outcome(patient(), &guest, "> start");
    assert!(outcome.contains("`unreachable` instruction executed"));
}
