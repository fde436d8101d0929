//! Plugins that break when a request asks them to, and mark every request that passes them.
//!
//! A plugin named `gate` reads `x-gate-fault`: two letters, the callback in which it breaks and how.
//! It puts its configuration into `x-gate` of the request, so that the upstream can tell who passed
//! without it, and gives back in `x-gate-id` of the response what it remembered of the request.

use std::fmt::Write as _;

/// A callback in which a plugin can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    Log,
    Done,
    Delete,
    /// Held until the timer, which breaks.
    Tick,
    /// Held until the answer to a call, which breaks.
    CallResponse,
    /// Held until an item of a queue, which breaks.
    Queue,
}

/// How a plugin breaks, or what else it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Trap,
    /// Loops until the deadline.
    Loop,
    /// Takes memory until there is no more, touches it all, and traps.
    Memory,
    Exit,
    /// Logs until lines are dropped.
    FloodLog,
    /// Sets shared data until it is full.
    FloodData,
    /// Puts items into a queue until it is full.
    FloodQueue,
    /// Calls a cluster that does not answer until calls are refused.
    FloodCalls,
    /// Holds for ever.
    Hang,
    /// Holds the body until its end: nothing is broken.
    Buffer,
    /// Holds until a call is answered, and goes on: nothing is broken.
    Call,
}

/// Which plugin, where and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

/// The cluster that echoes, and the one that never answers.
pub(crate) const CLUSTERS: [&str; 2] = ["echo", "void"];

// === impl Place ===

impl Place {
    pub(crate) const ALL: [Self; 12] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::RequestTrailers,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::ResponseTrailers,
        Self::Log,
        Self::Done,
        Self::Delete,
        Self::Tick,
        Self::CallResponse,
        Self::Queue,
    ];

    const fn letter(self) -> char {
        match self {
            Self::RequestHeaders => 'h',
            Self::RequestBody => 'b',
            Self::RequestTrailers => 't',
            Self::ResponseHeaders => 'H',
            Self::ResponseBody => 'B',
            Self::ResponseTrailers => 'T',
            Self::Log => 'l',
            Self::Done => 'd',
            Self::Delete => 'x',
            Self::Tick => 'k',
            Self::CallResponse => 'c',
            Self::Queue => 'q',
        }
    }

    /// Whether the client has its answer by then.
    pub(crate) const fn is_after_the_answer(self) -> bool {
        matches!(self, Self::Log | Self::Done | Self::Delete)
    }
}

// === impl Kind ===

impl Kind {
    pub(crate) const FATAL: [Self; 4] = [Self::Trap, Self::Loop, Self::Memory, Self::Exit];
    pub(crate) const FLOODS: [Self; 4] =
        [Self::FloodLog, Self::FloodData, Self::FloodQueue, Self::FloodCalls];

    const fn letter(self) -> char {
        match self {
            Self::Trap => 'T',
            Self::Loop => 'L',
            Self::Memory => 'M',
            Self::Exit => 'E',
            Self::FloodLog => 'G',
            Self::FloodData => 'S',
            Self::FloodQueue => 'Q',
            Self::FloodCalls => 'C',
            Self::Hang => 'P',
            Self::Buffer => 'B',
            Self::Call => 'N',
        }
    }

    /// Whether the VM is dead afterwards.
    pub(crate) fn is_fatal(self) -> bool {
        Self::FATAL.contains(&self)
    }
}

// === impl Fault ===

impl Fault {
    /// As the plugins read it.
    pub(crate) fn letters(self) -> String {
        [self.place.letter(), self.kind.letter()].iter().collect()
    }
}

/// Where streams are remembered: sixteen bytes each, by the lowest bits of their context.
const SLOTS: u32 = 0x3f_0000;
/// Where the configurations of plugins are, sixty-four bytes each.
const ROOTS: u32 = 0xc000;
/// Which stream waits for the answer to which call.
const TOKENS: u32 = 0xd000;

/// Begins with what all callbacks use. `NAME` is the plugin's.
const FUNCTIONS: &str = r"
(import 'wasi_snapshot_preview1' 'proc_exit' (func $proc_exit (param i32)))
(global $tick_kind (mut i32) (i32.const 0))
(global $queue (mut i32) (i32.const 0))
(func $slot (param $c i32) (result i32)
    (i32.add (i32.const SLOTS) (i32.shl (i32.and (local.get $c) (i32.const 0xfff)) (i32.const 4))))
(func $root_at (param $c i32) (result i32)
    (i32.add (i32.const ROOTS) (i32.shl (i32.and (local.get $c) (i32.const 63)) (i32.const 6))))
(func $token_at (param $token i32) (result i32)
    (i32.add (i32.const TOKENS) (i32.shl (i32.and (local.get $token) (i32.const 0x3ff)) (i32.const 2))))
(func $is_at (param $c i32) (param $place i32) (result i32)
    (i32.and
        (i32.eq (i32.load (call $slot (local.get $c))) (local.get $c))
        (i32.eq (i32.load8_u offset=4 (call $slot (local.get $c))) (local.get $place))))
(func $kind (param $c i32) (result i32) (i32.load8_u offset=5 (call $slot (local.get $c))))
(func $grow (local $at i32)
    (loop $more
        (local.set $at (memory.grow (i32.const 16)))
        (if (i32.ne (local.get $at) (i32.const -1)) (then
            (memory.fill (i32.shl (local.get $at) (i32.const 16)) (i32.const 1) (i32.const 0x100000))
            (br $more))))
    (unreachable))
(func $flood_log (local $n i32)
    (loop $more
        (call $log 'a flood of lines that nobody reads')
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $n) (i32.const 300)))))
(func $flood_data (local $n i32)
    (loop $more
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (if (i32.lt_u (local.get $n) (i32.const 300)) (then
            (br_if $more (i32.eqz (call $set_shared (call $decimal (local.get $n))
                'a value of some length, which is kept' (i32.const 0))))))))
(func $flood_queue (local $n i32)
    (loop $more
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (if (i32.lt_u (local.get $n) (i32.const 300)) (then
            (br_if $more (i32.eqz (call $enqueue (call $register 'NAME-full') 'an item')))))))
(func $flood_calls (local $n i32)
    (loop $more
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (if (i32.lt_u (local.get $n) (i32.const 100)) (then
            (br_if $more (i32.eqz (call $http_call 'void' CALL_PAIRS '' (i32.const 100))))))))
;; Breaks, or says what the callback returns.
(func $do (param $kind i32) (result i32)
    (if (i32.eq (local.get $kind) (i32.const CODE_T)) (then (unreachable)))
    (if (i32.eq (local.get $kind) (i32.const CODE_L)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $kind) (i32.const CODE_M)) (then (call $grow)))
    (if (i32.eq (local.get $kind) (i32.const CODE_E)) (then (call $proc_exit (i32.const 3))))
    (if (i32.eq (local.get $kind) (i32.const CODE_G)) (then (call $flood_log)))
    (if (i32.eq (local.get $kind) (i32.const CODE_S)) (then (call $flood_data)))
    (if (i32.eq (local.get $kind) (i32.const CODE_Q)) (then (call $flood_queue)))
    (if (i32.eq (local.get $kind) (i32.const CODE_C)) (then (call $flood_calls)))
    (i32.or
        (i32.eq (local.get $kind) (i32.const CODE_P))
        (i32.eq (local.get $kind) (i32.const CODE_B))))
(func $at (param $c i32) (param $place i32) (result i32)
    (if (i32.eqz (call $is_at (local.get $c) (local.get $place))) (then (return (i32.const 0))))
    (call $do (call $kind (local.get $c))))
;; Holds a body until its end.
(func $at_body (param $c i32) (param $place i32) (param $end i32) (result i32)
    (if (i32.and (local.get $end) (i32.and
            (call $is_at (local.get $c) (local.get $place))
            (i32.eq (call $kind (local.get $c)) (i32.const CODE_B))))
        (then (return (i32.const 0))))
    (call $at (local.get $c) (local.get $place)))
;; Whether what was held for ever stays so: trailers would let a body go.
(func $holds (param $c i32) (param $place i32) (result i32)
    (i32.and
        (call $is_at (local.get $c) (local.get $place))
        (i32.eq (call $kind (local.get $c)) (i32.const CODE_P))))
(func $keep_fault (param $c i32) (param $at i32) (param $len i32)
    (if (i32.eq (local.get $len) (i32.const 2)) (then
        (i32.store16 offset=4 (call $slot (local.get $c)) (i32.load16_u (local.get $at))))))
(func $keep_id (param $c i32) (param $at i32) (param $len i32)
    (if (i32.eq (local.get $len) (i32.const 8)) (then
        (i64.store offset=8 (call $slot (local.get $c)) (i64.load (local.get $at))))))
(func $mark (param $c i32) (result i32 i32) (local $root i32)
    (local.set $root (call $root_at (i32.load8_u offset=6 (call $slot (local.get $c)))))
    (i32.add (local.get $root) (i32.const 4))
    (i32.load (local.get $root)))
(func $keep_mark (param $c i32) (param $at i32) (param $len i32)
    (if (i32.gt_u (local.get $len) (i32.const 60)) (then (unreachable)))
    (i32.store (call $root_at (local.get $c)) (local.get $len))
    (memory.copy (i32.add (call $root_at (local.get $c)) (i32.const 4))
        (local.get $at) (local.get $len)))
(func $configuration (param $size i32) (result i32 i32)
    (call $returned (call $proxy_get_buffer (i32.const 7) (i32.const 0) (local.get $size)
        (i32.const 0x100) (i32.const 0x104))))
;; Calls and remembers who waits for the answer; says whether it waits.
(func $wait_for_call (param $c i32) (result i32)
    (if (call $http_call 'echo' CALL_PAIRS '' (i32.const 10000)) (then (return (i32.const 0))))
    (i32.store (call $token_at (i32.load (i32.const 0x10c))) (local.get $c))
    (i32.const 1))
";

const CALLBACKS: &str = r"
on context_create:
    (if (local.get $parent) (then
        (i32.store (call $slot (local.get $context)) (local.get $context))
        (i32.store16 offset=4 (call $slot (local.get $context)) (i32.const 0))
        (i32.store8 offset=6 (call $slot (local.get $context)) (local.get $parent))))
on configure:
    (call $keep_mark (local.get $context) (call $configuration (local.get $size)))
    (global.set $queue (call $register 'NAME-wake'))
on request_headers:
    (call $keep_fault (local.get $context) (call $get #request 'x-NAME-fault'))
    (call $keep_id (local.get $context) (call $get #request 'x-id'))
    (call $replace #request 'x-NAME' (call $mark (local.get $context)))
    (if (call $is_at (local.get $context) (i32.const CODE_k)) (then
        (global.set $tick_kind (call $kind (local.get $context)))
        (call $tick #1)
        (return #pause)))
    (if (call $is_at (local.get $context) (i32.const CODE_c)) (then
        (return (call $wait_for_call (local.get $context)))))
    (if (call $is_at (local.get $context) (i32.const CODE_q)) (then
        (i32.store8 (i32.const 0x120) (call $kind (local.get $context)))
        (if (i32.eqz (call $enqueue (global.get $queue) (i32.const 0x120) (i32.const 1)))
            (then (return #pause)))))
    (return (call $at (local.get $context) (i32.const CODE_h)))
on request_body:
    (return (call $at_body (local.get $context) (i32.const CODE_b) (local.get $end)))
on request_trailers:
    (return (i32.or
        (call $holds (local.get $context) (i32.const CODE_b))
        (call $at (local.get $context) (i32.const CODE_t))))
on response_headers:
    (call $replace #response 'x-NAME-id'
        (i32.add (call $slot (local.get $context)) (i32.const 8)) (i32.const 8))
    (return (call $at (local.get $context) (i32.const CODE_H)))
on response_body:
    (return (call $at_body (local.get $context) (i32.const CODE_B) (local.get $end)))
on response_trailers:
    (return (i32.or
        (call $holds (local.get $context) (i32.const CODE_B))
        (call $at (local.get $context) (i32.const CODE_T))))
on log:
    (drop (call $at (local.get $context) (i32.const CODE_l)))
on done:
    (drop (call $at (local.get $context) (i32.const CODE_d)))
on delete:
    (drop (call $at (local.get $context) (i32.const CODE_x)))
on tick:
    (call $tick #0)
    (drop (call $do (global.get $tick_kind)))
on http_call_response:
    (if (call $is_at (i32.load (call $token_at (local.get $token))) (i32.const CODE_c)) (then
        (drop (call $do (call $kind (i32.load (call $token_at (local.get $token))))))
        (call $effective (i32.load (call $token_at (local.get $token))))
        (i32.store (call $token_at (local.get $token)) (i32.const 0))
        (call $continue #0)))
on queue_ready:
    (call $wake (call $dequeue (local.get $token)))
";

/// The plugin of this name, in the notation of the tests.
pub(crate) fn text(name: &str) -> String {
    let mut text = String::from(FUNCTIONS);
    text.push_str(
        "(func $wake (param $at i32) (param $len i32)
            (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 45)) (then
                (drop (call $do (i32.load8_u (local.get $at)))))))\n",
    );
    text.push_str(CALLBACKS);
    for letter in ('a'..='z').chain('A'..='Z') {
        let mut code = String::new();
        let _ = write!(code, "{}", u32::from(letter));
        text = text.replace(&format!("CODE_{letter})"), &format!("{code})"));
    }
    let pairs = "{:method: GET; :path: /call; :authority: a; x-id: 00000000; x-gate: call}";
    text.replace("'wasi_snapshot_preview1' 'proc_exit'", "\"wasi_snapshot_preview1\" \"proc_exit\"")
        .replace("CALL_PAIRS", pairs)
        .replace("NAME", name)
        .replace("SLOTS", &SLOTS.to_string())
        .replace("ROOTS", &ROOTS.to_string())
        .replace("TOKENS", &TOKENS.to_string())
}
