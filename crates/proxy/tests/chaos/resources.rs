//! What this process uses, as the kernel counts it.

/// Resident memory in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
}

/// Open files and sockets, each as the kernel names it.
pub(crate) fn open_files() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    // The folder that is being read is open as well.
    let targets = targets.map(|target| target.display().to_string());
    let mut targets: Vec<_> = targets.filter(|target| !target.ends_with("/fd")).collect();
    targets.sort();
    targets
}
