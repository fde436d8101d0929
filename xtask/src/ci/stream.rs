//! Runs a command, passing its output on line by line while the tests in it are counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, bail};

use crate::ci::tally::Tally;
use crate::process;

/// Runs the command and writes its lines to `output`.
///
/// # Errors
///
/// If it cannot be started or exits with another status than zero.
pub(super) fn run(
    command: &mut Command,
    tally: &mut Tally,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    print(output, &format!("$ {}", process::display(command)));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", process::display(command)))?;
    let (sender, lines) = channel();
    let readers = [
        child.stdout.take().map(|pipe| forward(pipe, sender.clone())),
        child.stderr.take().map(|pipe| forward(pipe, sender)),
    ];
    // Ends when both pipes are closed. Standard error goes to the same output, where its lines
    // keep their place among the others.
    for line in lines {
        print(output, &line);
        tally.line(&line);
    }
    tally.end();
    for reader in readers.into_iter().flatten() {
        // A reader ends with its pipe; it holds nothing that could be lost.
        drop(reader.join());
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

fn forward(pipe: impl Read + Send + 'static, sender: Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        // A line may hold any bytes; a test may print what it likes.
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    })
}

/// Flushed by line, so that a log file shows where a run is. A closed output ends nothing: the
/// exit status still tells.
fn print(output: &mut impl Write, line: &str) {
    drop(writeln!(output, "{line}").and_then(|()| output.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output is kept from the runner of this test: it would be counted there once more.
    fn shell(script: &str) -> (anyhow::Result<()>, Tally) {
        let mut tally = Tally::default();
        let result = run(Command::new("sh").args(["-c", script]), &mut tally, &mut Vec::new());
        (result, tally)
    }

    const RESULT: &str =
        "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";

    #[test]
    fn both_streams_are_counted() {
        let (result, tally) =
            shell(&format!("echo '{RESULT}'; echo '{RESULT}' >&2; printf 'no end'"));
        assert!(result.is_ok());
        assert_eq!(tally.passed(), 6);
    }

    #[test]
    fn a_failing_command_is_counted_all_the_same() {
        let (result, tally) = shell(&format!("echo '{RESULT}'; printf '\\377\\n'; exit 4"));
        assert!(result.is_err());
        assert_eq!(tally.passed(), 3);
    }

    #[test]
    fn standard_input_is_empty() {
        let (result, _) = shell("read line && exit 1; exit 0");
        assert!(result.is_ok());
    }
}
