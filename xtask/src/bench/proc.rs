//! What the kernel knows of a process.

use std::process::Command;

use anyhow::Context;

use crate::process;

/// Processor time that a process and its children have used, in clock ticks.
pub(super) fn family_cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    family(pid)?.into_iter().map(cpu_ticks).sum()
}

/// Resident memory of a process and its children, in KiB; what they share counts for each.
pub(super) fn family_resident_kib(pid: u32) -> anyhow::Result<u64> {
    family(pid)?.into_iter().map(resident_kib).sum()
}

/// The processes that the first thread of a process has started, such as the workers of nginx.
pub(super) fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs_err::read_to_string(&path)?;
    text.split_whitespace()
        .map(|child| child.parse().with_context(|| format!("`{child}` in `{path}`")))
        .collect()
}

fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = children(pid)?;
    family.push(pid);
    Ok(family)
}

/// Clock ticks in a second.
pub(super) fn ticks_per_second() -> anyhow::Result<u64> {
    let ticks = process::output(Command::new("getconf").arg("CLK_TCK"))?;
    ticks.parse().with_context(|| format!("`{ticks}` is no number of ticks"))
}

fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_ticks(&stat).with_context(|| format!("no times in `{}`", stat.trim()))
}

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).context("no `VmRSS` in the status of the process")
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

    #[test]
    fn children_count_with_their_process() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut grandchild = std::process::Command::new("sh");
        let mut parent = grandchild.args(["-c", "sleep 600 & echo started; wait"]);
        parent = parent.stdout(std::process::Stdio::piped());
        let mut parent = parent.spawn().unwrap();
        let mut line = String::new();
        let output = parent.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let found = children(parent.id()).unwrap();
        let (own, family) = (resident_kib(parent.id()), family_resident_kib(parent.id()));
        let alone = children(child.id()).unwrap();
        for pid in &found {
            drop(process::output(Command::new("sh").args(["-c", &format!("kill -KILL {pid}")])));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        parent.wait().unwrap();
        assert_eq!((found.len(), alone.len()), (1, 0));
        assert!(family.unwrap() > own.unwrap());
        assert!(children(u32::MAX).is_err());
    }
}
