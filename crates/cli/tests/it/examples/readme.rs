//! What a README promises: its commands, and what a terminal shows after each.

use std::ops::Range;

/// A command and what it must show.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// As typed, with the line breaks behind its `\`.
    pub(super) command: String,
    pub(super) output: Vec<String>,
    /// Where the output stands in the README, in lines from 0.
    pub(super) lines: Range<usize>,
}

/// The steps of all blocks that are marked as `console`.
///
/// # Errors
///
/// There is none, a block has output in front of its first command, or does not end.
pub(super) fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line == "```console" {
            let block: Vec<_> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
            if text.lines().nth(at + block.len() + 1).is_none() {
                return Err(format!("line {}: the block does not end", at + 1));
            }
            steps.extend(block_steps(&block)?);
        }
    }
    if steps.is_empty() { Err("there is no console block".to_owned()) } else { Ok(steps) }
}

fn block_steps(block: &[(usize, &str)]) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for &(at, line) in block {
        let goes_on = |step: &&mut Step| step.output.is_empty() && step.command.ends_with('\\');
        if let Some(command) = line.strip_prefix("$ ") {
            let (command, lines) = (command.to_owned(), at + 1..at + 1);
            steps.push(Step { command, output: Vec::new(), lines });
        } else if let Some(step) = steps.last_mut().filter(goes_on) {
            step.command = format!("{}\n{line}", step.command);
            step.lines = at + 1..at + 1;
        } else if let Some(step) = steps.last_mut() {
            step.output.push(line.to_owned());
            step.lines.end = at + 1;
        } else {
            return Err(format!("line {}: output without a command", at + 1));
        }
    }
    Ok(steps)
}

/// The README with other outputs: one for each step, or none to leave it as it is.
pub(super) fn with_outputs(
    text: &str,
    steps: &[Step],
    outputs: Vec<Option<Vec<String>>>,
) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // From the end, so that the places of those before do not move.
    for (step, output) in steps.iter().zip(outputs).rev() {
        if let Some(output) = output {
            lines.splice(step.lines.clone(), output);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_block_has_commands_with_what_they_show() {
    let text = "# A\n\n```console\n$ one \\\n  more\n$ two\nx\n\ny\n```\n```sh\n$ no\n```\n";
    let found = steps(text).unwrap();
    let of = |step: &Step| (step.command.clone(), step.output.join("|"), step.lines.clone());
    assert_eq!(of(&found[0]), ("one \\\n  more".into(), String::new(), 5..5));
    assert_eq!(of(&found[1]), ("two".into(), "x||y".into(), 6..9));
    assert_eq!(found.len(), 2);
    let outputs = vec![Some(vec!["z".to_owned()]), Some(Vec::new())];
    let expected = "# A\n\n```console\n$ one \\\n  more\nz\n$ two\n```\n```sh\n$ no\n```\n";
    assert_eq!(with_outputs(text, &found, outputs), expected);
}

#[test]
fn a_readme_without_commands_is_none() {
    for text in ["", "# A\n", "```sh\n$ a\n```\n", "```console\nx\n```\n", "```console\n$ a\n"] {
        assert!(steps(text).is_err(), "{text}");
    }
}
