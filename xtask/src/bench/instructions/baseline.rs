//! The counts that are kept, and what they are compared with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::process;

/// What a count may differ by before it is news: far above what two runs differ by.
const TOLERANCE: f64 = 0.03;

/// How a new baseline is kept.
const BLESS: &str = "`cargo xtask bench instructions --bless`";

/// What is kept in the tree.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    /// The profile of the build that was measured.
    profile: String,
    surroundings: Surroundings,
    instructions_per_request: BTreeMap<String, u64>,
}

/// What counts depend on beside the code: another compiler makes other instructions, and for another
/// processor the C library chooses other functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Surroundings {
    compiler: String,
    processor: String,
}

/// New counts beside the kept ones.
pub(super) struct Comparison {
    rows: Vec<Row>,
}

struct Row {
    case: String,
    before: Option<u64>,
    now: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Costlier,
    Cheaper,
    New,
}

// === impl Baseline ===

impl Baseline {
    pub(super) fn new(
        profile: &str,
        surroundings: Surroundings,
        counted: &[(String, u64)],
    ) -> Self {
        let instructions_per_request = counted.iter().cloned().collect();
        Self { profile: profile.to_owned(), surroundings, instructions_per_request }
    }

    /// Why it says nothing about counts in these surroundings, if so.
    pub(super) fn is_foreign_to(&self, surroundings: &Surroundings) -> Option<String> {
        let kept = &self.surroundings;
        let is_foreign = !self.instructions_per_request.is_empty() && kept != surroundings;
        is_foreign.then(|| {
            let Surroundings { compiler, processor } = kept;
            format!(
                "instructions are kept for `{compiler}` on `{processor}`, and are not compared \
                 with those of `{}` on `{}`",
                surroundings.compiler, surroundings.processor
            )
        })
    }

    /// Empty where nothing is kept.
    ///
    /// # Errors
    ///
    /// If the file is not what [`write`](Self::write) writes.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(path)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`{}` is broken; write it anew by {BLESS}", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }
}

// === impl Surroundings ===

impl Surroundings {
    /// Those of this machine.
    ///
    /// # Errors
    ///
    /// If the compiler does not say which one it is.
    pub(super) fn here() -> anyhow::Result<Self> {
        let compiler = process::output(Command::new("rustc").arg("--version"))?;
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.unwrap_or_default().trim_start_matches([' ', '\t', ':']);
        Ok(Self { compiler: compiler.trim().to_owned(), processor: model.trim().to_owned() })
    }
}

// === impl Comparison ===

impl Comparison {
    pub(super) fn new(baseline: &Baseline, counted: &[(String, u64)]) -> Self {
        let rows = counted.iter().map(|(case, now)| Row {
            before: baseline.instructions_per_request.get(case).copied(),
            case: case.clone(),
            now: *now,
        });
        Self { rows: rows.collect() }
    }

    /// # Errors
    ///
    /// If a case got costlier, or nothing is kept for it.
    pub(super) fn ensure(&self) -> anyhow::Result<()> {
        let new = self.cases(Verdict::New);
        ensure!(new.is_empty(), "nothing is kept for {new}; keep it by {BLESS}");
        let costlier = self.cases(Verdict::Costlier);
        ensure!(
            costlier.is_empty(),
            "over {:.0} % more instructions per request: {costlier}; make it cheaper, or if it is \
             worth that, say so in the commit and keep the new counts by {BLESS}",
            TOLERANCE * 100.0
        );
        Ok(())
    }

    fn cases(&self, verdict: Verdict) -> String {
        let rows = self.rows.iter().filter(|row| row.verdict() == verdict);
        rows.map(|row| format!("`{}`", row.case)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "| instructions per request | kept     | now      | change    |          |\n\
             |--------------------------|---------:|---------:|----------:|----------|"
        )?;
        for row in &self.rows {
            let before = row.before.map_or_else(String::new, |before| before.to_string());
            let change =
                row.change().map_or_else(String::new, |change| format!("{:+.2} %", change * 100.0));
            let Row { case, now, .. } = row;
            let verdict = row.verdict().name();
            writeln!(
                formatter,
                "| {case:<24} | {before:>8} | {now:>8} | {change:>9} | {verdict:<8} |"
            )?;
        }
        let cheaper = self.cases(Verdict::Cheaper);
        if !cheaper.is_empty() {
            writeln!(
                formatter,
                "\nCheaper than what is kept: {cheaper}. Keep it by {BLESS}, so that it stays so."
            )?;
        }
        Ok(())
    }
}

// === impl Row ===

impl Row {
    /// 0.01 is one per cent more.
    fn change(&self) -> Option<f64> {
        let before = self.before.filter(|before| *before > 0)?;
        Some(to_float(self.now) / to_float(before) - 1.0)
    }

    fn verdict(&self) -> Verdict {
        match self.change() {
            None => Verdict::New,
            Some(change) if change > TOLERANCE => Verdict::Costlier,
            Some(change) if change < -TOLERANCE => Verdict::Cheaper,
            Some(_) => Verdict::Same,
        }
    }
}

// === impl Verdict ===

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Costlier => "costlier",
            Self::Cheaper => "cheaper",
            Self::New => "new",
        }
    }
}

fn to_float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a request has far fewer than 2^52")]
    let count = count as f64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(count: u64) -> Vec<(String, u64)> {
        vec![("a".to_owned(), count), ("b".to_owned(), 500)]
    }

    fn on(processor: &str) -> Surroundings {
        Surroundings { compiler: "rustc 1".to_owned(), processor: processor.to_owned() }
    }

    fn kept(counted: &[(String, u64)]) -> Baseline {
        Baseline::new("release", on("one"), counted)
    }

    fn compared(count: u64) -> Comparison {
        Comparison::new(&kept(&counted(10_000)), &counted(count))
    }

    #[test]
    fn only_more_than_three_per_cent_above_what_is_kept_fails() {
        for count in [10_000, 10_299, 9_701, 5_000] {
            assert!(compared(count).ensure().is_ok(), "{count}");
        }
        let error = compared(10_301).ensure().expect_err("it is 3.01 % more").to_string();
        assert!(error.contains("`a`") && !error.contains("`b`"), "{error}");
        assert!(error.contains("--bless"), "{error}");
    }

    #[test]
    fn what_got_cheaper_is_told() {
        let text = compared(9_000).to_string();
        assert!(text.contains("-10.00 %") && text.contains("Cheaper than what is kept: `a`."));
        assert!(!compared(9_800).to_string().contains("Cheaper"));
    }

    #[test]
    fn what_nothing_is_kept_for_fails() {
        let comparison = Comparison::new(&Baseline::default(), &counted(1));
        let error = comparison.ensure().expect_err("nothing is kept").to_string();
        assert!(error.contains("`a`, `b`") && error.contains("--bless"), "{error}");
        assert!(comparison.to_string().contains("| new "));
    }

    #[test]
    fn counts_of_other_surroundings_are_not_compared() {
        let baseline = kept(&counted(7));
        assert_eq!(baseline.is_foreign_to(&on("one")), None);
        let reason = baseline.is_foreign_to(&on("another")).unwrap();
        assert!(reason.contains("`one`") && reason.contains("`another`"), "{reason}");
        // Nothing that is kept is no reason: it has to be kept.
        assert_eq!(Baseline::default().is_foreign_to(&on("one")), None);
        assert!(!Surroundings::here().unwrap().compiler.is_empty());
    }

    #[test]
    fn what_is_kept_is_read_again_and_foreign_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.json");
        assert!(Baseline::read(&path).unwrap().instructions_per_request.is_empty());
        kept(&counted(7)).write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap().instructions_per_request["a"], 7);
        for text in ["", "{}", r#"{"profile": "release", "instructions_per_request": {"a": -1}}"#] {
            fs::write(&path, text).unwrap();
            assert!(Baseline::read(&path).is_err(), "{text}");
        }
        // Whole, but for one name that nobody knows.
        kept(&counted(7)).write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for known in [r#""profile""#, r#""compiler""#] {
            fs::write(&path, text.replacen(known, &format!(r#""other": "", {known}"#), 1)).unwrap();
            assert!(Baseline::read(&path).is_err(), "{known}");
        }
    }
}
