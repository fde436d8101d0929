//! Bodies of every size, both ways, with plugins that pass, change and hold them.

use super::case::{Case, Request, changing, get, guest, request};
use super::cases;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn passing() -> Case {
    guest(
        "
        on request_body:
        on response_body:",
    )
}

/// Holds each body until it is complete.
fn holding() -> Case {
    guest(
        "
        on request_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))
        on response_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))",
    )
}

fn body(size: usize) -> String {
    "0123456789abcdef".chars().cycle().take(size).collect()
}

fn sized(size: usize) -> Request {
    request("POST", "/", &format!("content-length: {size}\n"), &body(size))
}

fn chunked(size: usize) -> Request {
    let body = body(size);
    let chunks = body
        .as_bytes()
        .chunks(60 * KIB)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    let framed = chunks.collect::<String>() + "0\r\n\r\n";
    request("POST", "/", "transfer-encoding: chunked\n", &framed)
}

/// Both ways with and without a length; the echo server sends the request's body back.
fn of(case: Case, size: usize) -> Case {
    case.send([sized(size), chunked(size), get(&format!("/bytes/{size}"))])
}

cases! {
    nothing_passes => of(passing(), 0);
    one_byte_passes => of(passing(), 1);
    many_bytes_pass => of(passing(), 64 * KIB);
    a_large_body_passes => of(passing(), MIB);
    a_huge_body_passes => of(passing(), 10 * MIB);
    nothing_is_changed => of(changing(), 0);
    one_byte_is_changed => of(changing(), 1);
    many_bytes_are_changed => of(changing(), 64 * KIB);
    a_large_body_is_changed => of(changing(), MIB);
    a_huge_body_is_changed => of(changing(), 10 * MIB);
    nothing_is_held => of(holding(), 0);
    one_byte_is_held => of(holding(), 1);
    many_bytes_are_held => of(holding(), 64 * KIB);
    half_the_limit_is_held => of(holding(), MIB / 2);
    a_request_beyond_the_limit_is_refused => holding().send([sized(2 * MIB)]).send([chunked(2 * MIB)]);
    a_response_beyond_the_limit_is_refused => holding().send([get("/bytes/2097152")]);
}
