//! What the kernel knows of a process.

use std::process::Command;

use anyhow::Context;

use crate::process;

/// Processor time that a process has used, in clock ticks.
pub(super) fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_ticks(&stat).with_context(|| format!("no times in `{}`", stat.trim()))
}

/// Resident memory of a process, in KiB.
pub(super) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).context("no `VmRSS` in the status of the process")
}

/// Clock ticks in a second.
pub(super) fn ticks_per_second() -> anyhow::Result<u64> {
    let ticks = process::output(Command::new("getconf").arg("CLK_TCK"))?;
    ticks.parse().with_context(|| format!("`{ticks}` is no number of ticks"))
}

/// User and system time. The name of the program, in parentheses, may hold spaces and
/// parentheses itself, so fields are counted from its end.
///
/// Source: proc(5), `/proc/pid/stat`, fields 14 and 15.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn parse_resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20 0 4 0 100 200 300";

    #[test]
    fn user_and_system_time_are_summed_up_whatever_the_name() {
        assert_eq!(parse_ticks(STAT), Some(281));
    }

    #[test]
    fn a_cut_or_foreign_line_has_no_times() {
        for stat in ["", "42 (a", "42 (a) S 1 2", &STAT.replace("31", "x"), &STAT[..30]] {
            assert_eq!(parse_ticks(stat), None, "{stat}");
        }
        let overflowing = STAT.replace("250", &u64::MAX.to_string());
        assert_eq!(parse_ticks(&overflowing), None);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        let status = "Name:\tx\nVmPeak:\t   99 kB\nVmRSS:\t   1234 kB\nRssAnon:\t 5 kB\n";
        assert_eq!(parse_resident(status), Some(1234));
        for status in ["", "VmRSS:\n", "VmRSS:\t1 MB\n", "RssAnon:\t5 kB\n"] {
            assert_eq!(parse_resident(status), None, "{status}");
        }
    }

    #[test]
    fn this_process_has_used_memory_and_the_clock_ticks() {
        let pid = std::process::id();
        assert!(resident_kib(pid).unwrap() > 0);
        assert!(cpu_ticks(pid).is_ok());
        assert!(ticks_per_second().unwrap() > 0);
        assert!(cpu_ticks(u32::MAX).is_err());
    }
}
