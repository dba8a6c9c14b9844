//! Notices that the content of a file has changed (the configuration, a certificate): an editor's
//! write or rename, Kubernetes' swap of the `..data` symlink, a bind mount. The directories are
//! watched, since those replace the file itself; and the content is compared every two seconds, for
//! file systems that report no events. The directory of the operator's prompts is watched with
//! them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::config::section::prompts;
use crate::config::toml::environment::read_limited;

/// A burst of events has ended when there is none for this long; it is cut off at ten times that.
/// Writers write in pieces.
const QUIET: Duration = Duration::from_millis(100);
/// Interval of comparing the content.
const POLL: Duration = Duration::from_secs(2);

/// The files and the directory that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Files, compared by content.
    pub files: Vec<PathBuf>,
    /// A directory with everything below it.
    pub tree: Option<PathBuf>,
}

/// A thread that watches files until this is dropped.
pub struct Watcher {
    /// Delivers events into the thread's queue; dropping it ends the thread.
    notify: Option<notify::RecommendedWatcher>,
    /// Keeps the thread alive where the system has no watcher.
    _alive: SyncSender<()>,
}

impl Watcher {
    /// Starts the thread. It sends one unit for each change; changes while one is waiting are part
    /// of it. Fails when no thread can be started.
    pub fn start(watched: &Watched) -> std::io::Result<(Self, mpsc::Receiver<()>)> {
        Self::start_with(watched, POLL)
    }

    fn start_with(
        watched: &Watched,
        poll: Duration,
    ) -> std::io::Result<(Self, mpsc::Receiver<()>)> {
        let (changed, changes) = mpsc::channel(1);
        let (events, wakeups) = sync_channel(1);
        let before = watched.digests();
        let notify = watch_directories(watched, events.clone());
        let watched = watched.clone();
        std::thread::Builder::new()
            .name("weir-watch".into())
            .spawn(move || run(&watched, poll, before, &wakeups, &changed))?;
        Ok((Self { notify, _alive: events }, changes))
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("events", &self.notify.is_some()).finish()
    }
}

/// Subscribes to the events of the directories. Returns `None` when the system has no events:
/// polling has to do.
fn watch_directories(
    watched: &Watched,
    events: SyncSender<()>,
) -> Option<notify::RecommendedWatcher> {
    let relevant = watched.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // reading the file is an event too and would wake the thread for ever; so would a log in
        // the same directory
        if event.map_or(true, |event| !event.kind.is_access() && relevant.has_any(&event.paths)) {
            // full: the thread is about to compare anyway
            let _ = events.try_send(());
        }
    });
    let mut watcher = watcher
        .map_err(|error| tracing::warn!(%error, "the system reports no file events: files are polled every 2 s"))
        .ok()?;
    let flat =
        watched.directories().into_iter().map(|directory| (directory, RecursiveMode::NonRecursive));
    for (directory, mode) in
        flat.chain(watched.tree.as_deref().map(|tree| (tree, RecursiveMode::Recursive)))
    {
        if let Err(error) = watcher.watch(directory, mode) {
            tracing::warn!(%error, directory = %directory.display(), "no file events in this directory: it is polled every 2 s");
        }
    }
    Some(watcher)
}

/// Compares the content after each burst of events and each `poll`, and sends a unit when it has
/// changed.
fn run(
    watched: &Watched,
    poll: Duration,
    mut known: Digests,
    wakeups: &Receiver<()>,
    changed: &mpsc::Sender<()>,
) {
    loop {
        let is_poll = match wakeups.recv_timeout(poll) {
            Ok(()) => {
                settle(wakeups);
                false
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = watched.digests();
        // a file that is gone between two halves of a rename comes back; one that stays away is
        // a change at the next poll
        if now == known || (now.contains(&None) && !is_poll) {
            continue;
        }
        known = now;
        if let Err(mpsc::error::TrySendError::Closed(())) = changed.try_send(()) {
            return;
        }
    }
}

/// Waits for the end of a burst of events.
fn settle(wakeups: &Receiver<()>) {
    for _ in 0..10 {
        if wakeups.recv_timeout(QUIET).is_err() {
            return;
        }
    }
}

/// Hashes of the files, then of the tree; `None` for a file that is missing or is not a regular
/// one.
type Digests = Vec<Option<u64>>;

impl Watched {
    /// Returns the directories of the files.
    fn directories(&self) -> BTreeSet<&Path> {
        let parents = self.files.iter().filter_map(|path| path.parent());
        parents
            .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            .collect()
    }

    /// Returns whether an event is about one of the files, about the link that Kubernetes swaps
    /// (`..data`), or in the tree.
    fn has_any(&self, paths: &[PathBuf]) -> bool {
        let is_named = |name: &OsStr| self.files.iter().any(|file| file.file_name() == Some(name));
        let is_ours = |path: &PathBuf| {
            let by_name =
                |name: &OsStr| is_named(name) || name.as_encoded_bytes().starts_with(b"..");
            path.file_name().is_some_and(by_name)
                || self.tree.as_ref().is_some_and(|tree| path.starts_with(tree))
        };
        paths.is_empty() || paths.iter().any(is_ours)
    }

    /// Returns hashes and not the content, which may contain secrets. Of the tree, which is read
    /// every two seconds, names, sizes and times are enough.
    fn digests(&self) -> Digests {
        let of_file = |path: &PathBuf| {
            let mut hasher = DefaultHasher::new();
            let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
            match read_limited(path) {
                Ok(bytes) => bytes.hash(&mut hasher),
                // unreadable, or too long for a configuration: size and time show a change
                Err(_) => (metadata.len(), metadata.modified().ok()).hash(&mut hasher),
            }
            Some(hasher.finish())
        };
        let mut tree = DefaultHasher::new();
        for path in self.tree.iter().flat_map(|tree| prompts::files(tree).unwrap_or_default()) {
            let metadata = std::fs::metadata(&path).ok();
            let version = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
            (path, version).hash(&mut tree);
        }
        self.files.iter().map(of_file).chain([Some(tree.finish())]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use tokio::sync::mpsc::Receiver;

    use super::{Watched, Watcher};

    /// Creates a directory for one test.
    fn directory(test: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("weir-watch-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn only(file: &std::path::Path) -> Watched {
        Watched { files: vec![file.to_owned()], tree: None }
    }

    /// A poll that never comes: changes are noticed by events alone.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn changed(changes: &mut Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_secs(10), changes.recv())
            .await
            .is_ok_and(|unit| unit.is_some())
    }

    #[tokio::test]
    async fn a_write_and_a_rename_over_the_file_are_changes() {
        let dir = directory("write");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) = Watcher::start_with(&only(&file), NEVER).unwrap();
        fs::write(&file, "b").unwrap();
        assert!(changed(&mut changes).await, "a write in place");
        fs::write(dir.join(".weir.toml.swp"), "c").unwrap();
        fs::rename(dir.join(".weir.toml.swp"), &file).unwrap();
        assert!(changed(&mut changes).await, "an editor's rename");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "d").unwrap();
        assert!(changed(&mut changes).await, "removed and written anew");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn kubernetes_swapping_the_data_directory_is_a_change() {
        let dir = directory("configmap");
        let version = |name: &str, text: &str| {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("weir.toml"), text).unwrap();
            std::os::unix::fs::symlink(name, dir.join("..data_tmp")).unwrap();
            fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        };
        version("..2026_01", "a");
        let file = dir.join("weir.toml");
        std::os::unix::fs::symlink("..data/weir.toml", &file).unwrap();
        let (_watcher, mut changes) = Watcher::start_with(&only(&file), NEVER).unwrap();
        version("..2026_02", "b");
        assert!(changed(&mut changes).await);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn the_same_content_is_no_change() {
        let dir = directory("same");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) = Watcher::start_with(&only(&file), NEVER).unwrap();
        fs::write(&file, "a").unwrap();
        fs::write(dir.join("neighbour"), "b").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(changes.try_recv().is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_change_below_the_directory_of_prompts_is_one() {
        let dir = directory("tree");
        let (file, tree) = (dir.join("weir.toml"), dir.join("prompts"));
        fs::create_dir_all(tree.join("chat")).unwrap();
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) =
            Watcher::start_with(&Watched { tree: Some(tree.clone()), ..only(&file) }, NEVER)
                .unwrap();
        fs::write(tree.join("chat/base.toml"), "b").unwrap();
        assert!(changed(&mut changes).await, "a new prompt");
        fs::remove_file(tree.join("chat/base.toml")).unwrap();
        assert!(changed(&mut changes).await, "one less");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn the_poll_finds_what_no_event_reported() {
        let dir = directory("poll");
        let target = dir.join("elsewhere");
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("weir.toml"), "a").unwrap();
        let file = dir.join("weir.toml");
        std::os::unix::fs::symlink("elsewhere/weir.toml", &file).unwrap();
        let (_watcher, mut changes) = Watcher::start(&only(&file)).unwrap();
        fs::write(target.join("weir.toml"), "b").unwrap();
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(change, Ok(Some(())), "the link's target is in a directory that is not watched");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_dropped_watcher_ends_its_thread() {
        let dir = directory("drop");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (watcher, mut changes) = Watcher::start(&only(&file)).unwrap();
        drop(watcher);
        let ended = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(ended, Ok(None));
        fs::remove_dir_all(dir).unwrap();
    }
}
