//! What plugins share: values, queues, metrics, the log.

use super::case::{Case, get, guest};
use super::cases;

/// A plugin that does this for each request.
fn doing(text: &str) -> Case {
    guest(&format!("on request_headers:\n{text}")).log().send([get("/bytes/0"), get("/bytes/0")])
}

cases! {
    log_lines_of_every_level => doing("
        (call $log_at #0 'trace') (call $log_at #1 'debug') (call $log_at #2 'info')
        (call $log_at #3 'warn') (call $log_at #4 'error') (call $log_at #5 'critical')
        (call $log_at #6 'nobody') (call $log '') (call $log 'a: b')");
    log_lines_of_every_callback => guest("
        on context_create:
            (if (local.get $parent) (then (call $log 'create')))
        on request_headers:
            (call $log 'request headers')
        on response_headers:
            (call $log 'response headers')
        on log:
            (call $log (call $get #request ':path'))
            (call $log (call $get #response ':status'))
        on done:
            (if (i32.ne (local.get $context) #1) (then (call $log 'done')))
        on delete:
            (if (i32.ne (local.get $context) #1) (then (call $log 'delete')))
        ").log().send([get("/bytes/0"), get("/status/404")]);
    shared_values => doing("
        (call $log (call $shared 'key'))
        (call $log_number (call $set_shared 'key' 'one' #0))
        (call $log (call $shared 'key'))
        (call $log_number (call $set_shared 'key' 'two' (i32.load (i32.const 0x110))))
        (call $log_number (call $set_shared 'key' 'three' (i32.load (i32.const 0x110))))
        (call $log (call $shared 'key'))
        (call $log_number (call $set_shared 'key' '' #0))
        (call $log (call $shared 'key'))
        (call $log_number (call $set_shared 'absent' 'x' #77))
        (call $log (call $shared 'absent'))
        (call $log_number (call $set_shared '' 'of no name' #0))
        (call $log (call $shared ''))");
    queues => doing("
        (call $log_number (call $resolve 'absent'))
        (call $log_number (call $enqueue #4711 'x'))
        (call $log (call $dequeue #4711))
        (call $log_number (i32.eq (call $register 'queue') (call $register 'queue')))
        (call $log_number (call $resolve 'queue'))
        (call $log (call $dequeue (call $register 'queue')))
        (call $log_number (call $enqueue (call $register 'queue') 'one'))
        (call $log_number (call $enqueue (call $register 'queue') ''))
        (call $log_number (call $enqueue (call $register 'queue') 'three'))
        (call $log (call $dequeue (call $register 'queue')))
        (call $log (call $dequeue (call $register 'queue')))
        (call $log (call $dequeue (call $register 'queue')))
        (call $log (call $dequeue (call $register 'queue')))");
    word_of_a_queue_lets_a_request_go => guest("
        on request_headers:
            (call $log 'queued')
            (call $hold (local.get $context))
            (call $log_number (call $enqueue (call $register 'queue') 'item'))
            (return #pause)
        on queue_ready:
            (call $log (call $dequeue (local.get $token)))
            (call $log (call $dequeue (local.get $token)))
            (if (call $take_held) (then (call $continue #0)))
        ").log().send([get("/"), get("/")]);
    metrics_of_every_kind => doing("
        (drop (call $proxy_increment_metric (call $define #counter 'kinds_counter') (i64.const 2)))
        (call $log_number (call $proxy_increment_metric (call $define #counter 'kinds_counter') (i64.const 0)))
        (call $log_number (call $proxy_increment_metric (call $define #counter 'kinds_counter') (i64.const -1)))
        (call $log_number (call $proxy_record_metric (call $define #counter 'kinds_counter') (i64.const 5)))
        (call $log_number (call $proxy_increment_metric (call $define #gauge 'kinds_gauge') (i64.const 7)))
        (call $log_number (call $proxy_increment_metric (call $define #gauge 'kinds_gauge') (i64.const -3)))
        (call $log_number (call $proxy_record_metric (call $define #gauge 'kinds_set') (i64.const 12)))
        (call $log_number (call $proxy_record_metric (call $define #histogram 'kinds_histogram') (i64.const 30)))
        (call $log_number (call $proxy_record_metric (call $define #histogram 'kinds_histogram') (i64.const 0)))
        (call $log_number (call $proxy_increment_metric (call $define #histogram 'kinds_histogram') (i64.const 1)))
        (call $log_number (call $proxy_get_metric (call $define #histogram 'kinds_histogram') #0x120))
        (call $log_number (call $proxy_get_metric (call $define #counter 'kinds_counter') #0x120))
        (call $log_number (i32.load (i32.const 0x120)))
        (call $log_number (call $proxy_get_metric #400 #0x120))
        (call $log_number (call $proxy_record_metric #401 (i64.const 1)))
        (call $log_number (call $proxy_increment_metric #7 (i64.const 1)))").metrics("kinds_");
    metrics_with_odd_names => doing("
        (call $bump 'odd.dots.and-dashes') (call $bump 'odd name') (call $bump 'odd:colon')
        (call $bump 'odd/slash{brace=\\22x\\22}') (call $bump 'odd_\\c3\\a9') (call $bump 'ODD')
        (call $bump 'odd.=.1;.;')").metrics("odd");
    values_of_a_stream => guest("
        on request_headers:
            (call $log (call $property 'own'))
            (call $set_property 'own' 'value')
            (call $log (call $property 'own'))
            (call $log (call $property 'filter_state\\00wasm.own'))
        on response_headers:
            (call $log (call $property 'own'))
            (call $set_property 'own' '')
        on log:
            (call $log (call $property 'own'))
        ").log().send([get("/"), get("/")]);
}
