(import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_header_map_value"
    (func $proxy_get (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_add_header_map_value"
    (func $proxy_add (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_replace_header_map_value"
    (func $proxy_replace (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_remove_header_map_value"
    (func $proxy_remove (param i32 i32 i32) (result i32)))
(import "env" "proxy_set_header_map_pairs"
    (func $proxy_set_pairs (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_property" (func $proxy_get_property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_property" (func $proxy_set_property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_buffer_bytes"
    (func $proxy_get_buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_buffer_bytes"
    (func $proxy_set_buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_tick_period_milliseconds" (func $proxy_tick (param i32) (result i32)))
(import "env" "proxy_set_effective_context" (func $proxy_effective (param i32) (result i32)))
(import "env" "proxy_continue_stream" (func $proxy_continue (param i32) (result i32)))
(import "env" "proxy_close_stream" (func $proxy_close (param i32) (result i32)))
(import "env" "proxy_send_local_response"
    (func $proxy_reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_define_metric" (func $proxy_define_metric (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_increment_metric" (func $proxy_increment_metric (param i32 i64) (result i32)))
(import "env" "proxy_record_metric" (func $proxy_record_metric (param i32 i64) (result i32)))
(import "env" "proxy_get_metric" (func $proxy_get_metric (param i32 i32) (result i32)))
(import "env" "proxy_http_call" (func $proxy_http_call
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_shared_data"
    (func $proxy_get_shared_data (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_shared_data"
    (func $proxy_set_shared_data (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_register_shared_queue"
    (func $proxy_register_queue (param i32 i32 i32) (result i32)))
(import "env" "proxy_resolve_shared_queue"
    (func $proxy_resolve_queue (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
(import "env" "proxy_dequeue_shared_queue" (func $proxy_dequeue (param i32 i32 i32) (result i32)))

(memory (export "memory") 64)
(func (export "proxy_abi_version_0_2_1"))

;; A bump allocator that begins anew with every callback that asks for it: guests are short-lived,
;; but large bodies are not small.
(global $free (mut i32) (i32.const 0x10000))
(func $allocate (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (i32.add (global.get $free) (local.get $size)) (i32.const 0x3f0000))
        (then (global.set $free (i32.const 0x10000))))
    (local.set $at (global.get $free))
    (global.set $free (i32.and
        (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (local.get $at))

;; What a hostcall returned, or `-` if its status is not 0.
(func $returned (param $status i32) (result i32 i32)
    (if (result i32 i32) (local.get $status)
        (then '-')
        (else (i32.load (i32.const 0x100)) (i32.load (i32.const 0x104)))))

(func $log (param i32 i32)
    (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
(func $get (param i32 i32 i32) (result i32 i32)
    (call $returned (call $proxy_get (local.get 0) (local.get 1) (local.get 2)
        (i32.const 0x100) (i32.const 0x104))))
(func $add (param i32 i32 i32 i32 i32)
    (drop (call $proxy_add
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
(func $replace (param i32 i32 i32 i32 i32)
    (drop (call $proxy_replace
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
(func $remove (param i32 i32 i32)
    (drop (call $proxy_remove (local.get 0) (local.get 1) (local.get 2))))
(func $set_pairs (param i32 i32 i32)
    (drop (call $proxy_set_pairs (local.get 0) (local.get 1) (local.get 2))))
(func $property (param i32 i32) (result i32 i32)
    (call $returned (call $proxy_get_property (local.get 0) (local.get 1)
        (i32.const 0x100) (i32.const 0x104))))
;; A property of eight bytes as a decimal number.
(func $number_property (param i32 i32) (result i32 i32)
    (local $status i32)
    (local.set $status (call $proxy_get_property (local.get 0) (local.get 1)
        (i32.const 0x100) (i32.const 0x104)))
    (if (result i32 i32) (local.get $status)
        (then '-')
        (else (call $decimal (i32.load (i32.load (i32.const 0x100)))))))
(func $set_property (param i32 i32 i32 i32)
    (drop (call $proxy_set_property
        (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
;; All of a body that is shown: 0 of the request, 1 of the response.
(func $body (param i32) (result i32 i32)
    (call $returned (call $proxy_get_buffer (local.get 0) (i32.const 0) (i32.const -1)
        (i32.const 0x100) (i32.const 0x104))))
(func $set_body (param i32 i32 i32 i32 i32)
    (drop (call $proxy_set_buffer
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
(func $tick (param i32) (drop (call $proxy_tick (local.get 0))))
(func $effective (param i32) (drop (call $proxy_effective (local.get 0))))
(func $continue (param i32) (drop (call $proxy_continue (local.get 0))))
(func $close (param i32) (drop (call $proxy_close (local.get 0))))
;; Status, body, headers.
(func $reply (param i32 i32 i32 i32 i32)
    (drop (call $proxy_reply (local.get 0) 'guest reply' (local.get 1) (local.get 2)
        (local.get 3) (local.get 4) (i32.const -1))))
;; A number in decimal digits.
(func $decimal (param $number i32) (result i32 i32)
    (local $at i32)
    (local $end i32)
    (local.set $end (i32.add (call $allocate (i32.const 16)) (i32.const 16)))
    (local.set $at (local.get $end))
    (loop $digits
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at)
            (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
        (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
        (br_if $digits (local.get $number)))
    (local.get $at)
    (i32.sub (local.get $end) (local.get $at)))
;; Whether two texts are equal.
(func $is (param $a i32) (param $a_len i32) (param $b i32) (param $b_len i32) (result i32)
    (if (i32.ne (local.get $a_len) (local.get $b_len)) (then (return (i32.const 0))))
    (loop $bytes
        (if (i32.eqz (local.get $a_len)) (then (return (i32.const 1))))
        (if (i32.ne (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b)))
            (then (return (i32.const 0))))
        (local.set $a (i32.add (local.get $a) (i32.const 1)))
        (local.set $b (i32.add (local.get $b) (i32.const 1)))
        (local.set $a_len (i32.sub (local.get $a_len) (i32.const 1)))
        (br $bytes))
    (unreachable))
;; Adds one to a counter that the admin page shows.
(func $bump (param i32 i32)
    (drop (call $proxy_define_metric (i32.const 0) (local.get 0) (local.get 1) (i32.const 0x108)))
    (drop (call $proxy_increment_metric (i32.load (i32.const 0x108)) (i64.const 1))))
;; Counts up by one and says the number, per VM.
(global $counted (mut i32) (i32.const 0))
(func $count (result i32)
    (global.set $counted (i32.add (global.get $counted) (i32.const 1)))
    (global.get $counted))
;; The stream that is held, for the next tick.
(global $held (mut i32) (i32.const 0))
(func $hold (param i32) (global.set $held (local.get 0)))
;; Makes the held stream the effective one, once; says whether there was one.
(func $take_held (result i32)
    (local $held i32)
    (local.set $held (global.get $held))
    (global.set $held (i32.const 0))
    (if (local.get $held) (then (call $effective (local.get $held))))
    (local.get $held))
;; Logs at a level.
(func $log_at (param i32 i32 i32)
    (drop (call $proxy_log (local.get 0) (local.get 1) (local.get 2))))
;; Logs a number.
(func $log_number (param i32) (call $log (call $decimal (local.get 0))))
;; Cluster, headers, body, timeout in milliseconds; says the status.
(func $http_call (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (call $proxy_http_call (local.get 0) (local.get 1) (local.get 2) (local.get 3)
        (local.get 4) (local.get 5) (i32.const 0) (i32.const 0) (local.get 6) (i32.const 0x10c)))
;; A shared value; its number for comparing goes to 0x110.
(func $shared (param i32 i32) (result i32 i32)
    (call $returned (call $proxy_get_shared_data (local.get 0) (local.get 1)
        (i32.const 0x100) (i32.const 0x104) (i32.const 0x110))))
;; Key, value, number for comparing; says the status.
(func $set_shared (param i32 i32 i32 i32 i32) (result i32)
    (call $proxy_set_shared_data
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))
;; The token of a new or present queue.
(func $register (param i32 i32) (result i32)
    (drop (call $proxy_register_queue (local.get 0) (local.get 1) (i32.const 0x114)))
    (i32.load (i32.const 0x114)))
;; The status of looking for a queue of the own VM id.
(func $resolve (param i32 i32) (result i32)
    (call $proxy_resolve_queue (i32.const 0) (i32.const 0) (local.get 0) (local.get 1)
        (i32.const 0x114)))
(func $dequeue (param i32) (result i32 i32)
    (call $returned (call $proxy_dequeue (local.get 0) (i32.const 0x100) (i32.const 0x104))))
;; Type and name; the id of the metric.
(func $define (param i32 i32 i32) (result i32)
    (drop (call $proxy_define_metric (local.get 0) (local.get 1) (local.get 2) (i32.const 0x118)))
    (i32.load (i32.const 0x118)))
