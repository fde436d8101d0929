//! One request by hand: is the engine there, and do its plugins run?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// Longest answer that is read; the upstream's is under 1 KiB.
const MAX_ANSWER: u64 = 64 * 1024;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The tags that the plugins left in `x-chain-response`.
    pub(super) tags: usize,
}

/// Ports that are free now. They are asked for at once, so that they differ.
///
/// # Errors
///
/// If the loopback interface has none.
pub(super) fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Asks for `/`. Nothing, if there is no whole answer: the engine may still be starting.
pub(super) fn get(port: u16) -> Option<Answer> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// Asks for `/` over TLS, whatever the certificate is.
pub(super) fn get_tls(port: u16) -> Option<Answer> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--http1.1", "--include", "--max-time", "5"]);
    let answer = process::output(command.arg(format!("https://127.0.0.1:{port}/"))).ok()?;
    parse(&answer)
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, _) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let chain = lines
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("x-chain-response").then_some(value));
    Some(Answer { status, tags: chain.map_or(0, |chain| chain.split(',').count()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_tags_are_read() {
        for (answer, status, tags) in [
            ("HTTP/1.1 200 OK\r\nX-Chain-Response: b,a\r\n\r\nbody", 200, 2),
            ("HTTP/1.1 503 Service Unavailable\r\nserver: x\r\n\r\n", 503, 0),
            ("HTTP/1.1 200\r\n\r\nx-chain-response: a", 200, 0),
        ] {
            assert_eq!(parse(answer), Some(Answer { status, tags }), "{answer}");
        }
    }

    #[test]
    fn cut_and_foreign_answers_are_none() {
        for answer in
            ["", "HTTP/1.1 200 OK\r\nserver: x\r\n", "HTTP/1.1 2\r\n\r\n", "SSH-2.0\r\n\r\n"]
        {
            assert_eq!(parse(answer), None, "{answer}");
        }
    }

    #[test]
    fn a_closed_port_gives_no_answer_and_ports_differ() {
        let [first, second] = free_ports().unwrap();
        assert_ne!(first, second);
        assert_eq!(get(first), None);
        assert_eq!(get_tls(first), None);
    }
}
