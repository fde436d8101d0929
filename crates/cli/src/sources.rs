//! Files and folders of resources: read, remembered, watched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use wasmplug_api::{Diagnostic, IgnoredDocument, Resource, Severity, duplicates, parse_file};

use crate::diagnostics::WithHint;

/// Names of files that are read in a folder.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Deepest folder below the given one that is looked into.
const MAX_DEPTH: usize = 16;
/// Events of one save come in a burst, and files of one secret change one after the other; this
/// long after the first, they are read.
const SETTLE: Duration = Duration::from_millis(50);

/// The files that were given, with the last good content of each.
#[derive(Debug)]
pub(crate) struct Sources {
    paths: Vec<PathBuf>,
    files: BTreeMap<PathBuf, File>,
}

/// One file as it was last read.
#[derive(Debug)]
struct File {
    text: String,
    /// From the last content without errors.
    resources: Vec<Resource>,
    ignored: Vec<IgnoredDocument>,
}

/// What a reading brought.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Something is different from the last time.
    pub(crate) is_changed: bool,
    /// Findings about files that are different from the last time.
    pub(crate) findings: Vec<Diagnostic>,
    /// Documents of unknown kinds in those files.
    pub(crate) ignored: Vec<IgnoredDocument>,
    /// Resources without an error in those files, also in files that have others with one.
    pub(crate) valid: usize,
}

// === impl Sources ===

impl Sources {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, files: BTreeMap::new() }
    }

    /// All resources that are in effect: of each file the last good content.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        self.files.values().flat_map(|file| file.resources.iter().cloned()).collect()
    }

    /// Reads everything again. A file with errors keeps what it had before.
    ///
    /// # Errors
    /// A path that does not exist or cannot be read; then nothing is changed.
    pub(crate) fn read(&mut self) -> anyhow::Result<Reading> {
        let mut reading = Reading::default();
        let mut texts = BTreeMap::new();
        for path in &self.paths {
            collect(path, 0, &mut texts)?;
        }
        let before = self.files.len();
        self.files.retain(|path, _| texts.contains_key(path));
        reading.is_changed = self.files.len() != before;
        for (path, text) in texts {
            if self.files.get(&path).is_some_and(|file| file.text == text) {
                continue;
            }
            reading.is_changed = true;
            self.take(path, text, &mut reading);
        }
        if reading.is_changed {
            reading.findings.extend(duplicates(&self.resources()));
        }
        Ok(reading)
    }

    /// Tells of changes until it is dropped. The number only counts; what changed is read anew.
    ///
    /// # Errors
    /// The system refuses to watch.
    pub(crate) fn watch(&self) -> anyhow::Result<(RecommendedWatcher, watch::Receiver<u64>)> {
        watch(&self.paths)
    }

    fn take(&mut self, path: PathBuf, text: String, reading: &mut Reading) {
        let parsed = parse_file(&path.to_string_lossy(), &text);
        let is_broken = parsed.diagnostics.iter().any(|found| found.severity == Severity::Error);
        reading.findings.extend(parsed.diagnostics);
        reading.ignored.extend(parsed.ignored.iter().cloned());
        reading.valid = reading.valid.saturating_add(parsed.resources.len());
        let previous = self.files.remove(&path);
        let file = match previous {
            Some(previous) if is_broken => File { text, ..previous },
            // Without a good content before, none of a broken file is taken.
            None if is_broken => File { text, resources: Vec::new(), ignored: parsed.ignored },
            _ => File { text, resources: parsed.resources, ignored: parsed.ignored },
        };
        self.files.insert(path, file);
    }

    /// Number of files, and of documents in them that are not used.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.files.len(), self.files.values().map(|file| file.ignored.len()).sum())
    }
}

/// Tells of changes of files, and of what is in folders, until it is dropped. The number only counts.
///
/// # Errors
/// The system refuses to watch.
pub(crate) fn watch<'a>(
    paths: impl IntoIterator<Item = &'a PathBuf>,
) -> anyhow::Result<(RecommendedWatcher, watch::Receiver<u64>)> {
    let (sender, receiver) = watch::channel(0_u64);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_access = matches!(&event, Ok(event) if event.kind.is_access());
        if !is_access {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    })?;
    for path in paths {
        let (folder, mode) = if path.is_dir() {
            (path.as_path(), RecursiveMode::Recursive)
        } else {
            // Editors and ConfigMaps replace a file: its folder sees that, the file does not.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)
        };
        watcher.watch(folder, mode).map_err(|error| {
            let hint = "the system may limit the number of watches".to_owned();
            let error = anyhow::Error::new(error);
            let error = error.context(format!("cannot watch `{}`", folder.display()));
            WithHint::wrap(error, Some(hint))
        })?;
    }
    Ok((watcher, receiver))
}

/// Waits until what belongs to one save has changed; it is read as one change.
pub(crate) async fn settled(changes: &mut watch::Receiver<u64>) {
    tokio::time::sleep(SETTLE).await;
    changes.borrow_and_update();
}

/// Reads a file, or the resource files of a folder and the folders below.
fn collect(path: &Path, depth: usize, texts: &mut BTreeMap<PathBuf, String>) -> anyhow::Result<()> {
    let metadata = path.metadata().map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                Some("`-f` wants an existing file or folder".to_owned())
            }
            _ => None,
        };
        // The path is in the context already; the standard error says the rest.
        let cause = std::io::Error::from(error.kind());
        let error = anyhow::Error::new(cause).context(format!("cannot read `{}`", path.display()));
        WithHint::wrap(error, hint)
    })?;
    if !metadata.is_dir() {
        texts.insert(path.to_path_buf(), fs_err::read_to_string(path)?);
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs_err::read_dir(path)? {
        let entry = entry?.path();
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned());
        let is_hidden = name.is_some_and(|name| name.starts_with('.'));
        let is_resource = entry
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        // A ConfigMap's files are links into a hidden folder; the links are what is read.
        if !is_hidden && (is_resource || entry.is_dir()) {
            match collect(&entry, depth.saturating_add(1), texts) {
                // Removed between the listing and the look.
                Err(_) if !entry.exists() => {}
                other => other?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_of_one_save_are_one_change_and_a_later_one_is_another() {
        let (sender, mut changes) = watch::channel(0);
        sender.send_modify(|count| *count += 1);
        changes.changed().await.unwrap();
        let start = tokio::time::Instant::now();
        let within = async {
            tokio::time::sleep(SETTLE.saturating_sub(Duration::from_millis(1))).await;
            sender.send_modify(|count| *count += 1);
        };
        tokio::join!(settled(&mut changes), within);
        assert_eq!(start.elapsed(), SETTLE);
        assert!(!changes.has_changed().unwrap());
        sender.send_modify(|count| *count += 1);
        assert!(changes.has_changed().unwrap());
    }

    #[test]
    fn folders_are_read_as_deep_as_the_bound_and_no_deeper() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = root.path().to_path_buf();
        for depth in 0..=MAX_DEPTH + 1 {
            fs_err::create_dir_all(&folder).unwrap();
            fs_err::write(folder.join(format!("{depth}.yaml")), "").unwrap();
            folder.push("below");
        }
        let mut texts = BTreeMap::new();
        collect(root.path(), 0, &mut texts).unwrap();
        // The given folder, and as many below it as the bound.
        assert_eq!(texts.len(), MAX_DEPTH + 1);
    }
}
