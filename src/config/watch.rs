//! Notices that the content of a file has changed (the configuration, a certificate): an editor's write or
//! rename, Kubernetes' swap of the `..data` symlink, a bind mount. The directories are watched, since those
//! replace the file itself; and the content is compared every two seconds, for file systems that tell nothing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Writers write in pieces: wait until they are quiet for this long, but not longer than ten times it.
const QUIET: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(2);

/// Watches until it is dropped.
pub struct Watcher {
    /// Delivers events into the thread's queue; dropping it ends the thread.
    notify: Option<notify::RecommendedWatcher>,
    /// Keeps the thread alive where the system has no watcher.
    _alive: SyncSender<()>,
}

impl Watcher {
    /// Starts to watch files. Each change of their content sends one unit; changes that come while one is
    /// waiting are part of it.
    pub fn start(files: &[PathBuf]) -> std::io::Result<(Self, mpsc::Receiver<()>)> {
        Self::start_with(files, POLL)
    }

    fn start_with(files: &[PathBuf], poll: Duration) -> std::io::Result<(Self, mpsc::Receiver<()>)> {
        let (changed, changes) = mpsc::channel(1);
        let (events, wakeups) = sync_channel(1);
        let before = digests(files);
        let notify = watch_directories(files, events.clone());
        let files = files.to_owned();
        std::thread::Builder::new()
            .name("weir-watch".into())
            .spawn(move || run(&files, poll, before, &wakeups, &changed))?;
        Ok((Self { notify, _alive: events }, changes))
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("events", &self.notify.is_some()).finish()
    }
}

/// `None` where the system cannot: the poll then serves alone.
fn watch_directories(files: &[PathBuf], events: SyncSender<()>) -> Option<notify::RecommendedWatcher> {
    let parent = |path: &PathBuf| path.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned);
    let directories: BTreeSet<_> = files.iter().map(|path| parent(path).unwrap_or_else(|| ".".into())).collect();
    let names: Vec<OsString> = files.iter().filter_map(|path| path.file_name()).map(ToOwned::to_owned).collect();
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // reading the file is an event too: it would wake us for ever; so would a log beside it
        if event.map_or(true, |event| !event.kind.is_access() && concerns(&event.paths, &names)) {
            // Full means that the thread is about to look anyway.
            let _ = events.try_send(());
        }
    });
    let watching = made.and_then(|mut watcher| {
        for directory in &directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watching.map_err(|error| tracing::warn!(%error, "no file events here: the files are polled every 2 s")).ok()
}

/// Whether an event is about one of the files, or about the link that Kubernetes swaps (`..data`).
fn concerns(paths: &[PathBuf], names: &[OsString]) -> bool {
    let ours = |path: &PathBuf| {
        let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"..") || names.iter().any(|own| own == name);
        path.file_name().is_some_and(is_ours)
    };
    paths.is_empty() || paths.iter().any(ours)
}

fn run(files: &[PathBuf], poll: Duration, mut known: Digests, wakeups: &Receiver<()>, changed: &mpsc::Sender<()>) {
    loop {
        let is_poll = match wakeups.recv_timeout(poll) {
            Ok(()) => {
                settle(wakeups);
                false
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = digests(files);
        // A file that is gone between two halves of a rename comes back; one that stays away is told.
        if now == known || (now.contains(&None) && !is_poll) {
            continue;
        }
        known = now;
        if let Err(mpsc::error::TrySendError::Closed(())) = changed.try_send(()) {
            return;
        }
    }
}

fn settle(wakeups: &Receiver<()>) {
    for _ in 0..10 {
        if wakeups.recv_timeout(QUIET).is_err() {
            return;
        }
    }
}

/// Per file, `None` for one that cannot be read. Hashes and not the content: files may hold secrets.
type Digests = Vec<Option<u64>>;

fn digests(files: &[PathBuf]) -> Digests {
    let digest = |path: &PathBuf| {
        let mut hasher = DefaultHasher::new();
        std::fs::read(path).ok()?.hash(&mut hasher);
        Some(hasher.finish())
    };
    files.iter().map(digest).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use tokio::sync::mpsc::Receiver;

    use super::Watcher;

    /// A directory of this test's own with a configuration in it.
    fn directory(test: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("weir-watch-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// No poll: what is told was told by an event.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn told(changes: &mut Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_secs(10), changes.recv()).await.is_ok_and(|unit| unit.is_some())
    }

    #[tokio::test]
    async fn tells_of_a_write_and_of_a_rename_over_the_file() {
        let dir = directory("write");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) = Watcher::start_with(std::slice::from_ref(&file), NEVER).unwrap();
        fs::write(&file, "b").unwrap();
        assert!(told(&mut changes).await, "a write in place");
        fs::write(dir.join(".weir.toml.swp"), "c").unwrap();
        fs::rename(dir.join(".weir.toml.swp"), &file).unwrap();
        assert!(told(&mut changes).await, "an editor's rename");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "d").unwrap();
        assert!(told(&mut changes).await, "removed and written anew");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn tells_of_kubernetes_swapping_the_data_directory() {
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
        let (_watcher, mut changes) = Watcher::start_with(std::slice::from_ref(&file), NEVER).unwrap();
        version("..2026_02", "b");
        assert!(told(&mut changes).await);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn the_same_content_is_no_change() {
        let dir = directory("same");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) = Watcher::start_with(std::slice::from_ref(&file), NEVER).unwrap();
        fs::write(&file, "a").unwrap();
        fs::write(dir.join("neighbour"), "b").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(changes.try_recv().is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn the_poll_tells_what_no_event_did() {
        let dir = directory("poll");
        let target = dir.join("elsewhere");
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("weir.toml"), "a").unwrap();
        let file = dir.join("weir.toml");
        std::os::unix::fs::symlink("elsewhere/weir.toml", &file).unwrap();
        let (_watcher, mut changes) = Watcher::start(std::slice::from_ref(&file)).unwrap();
        fs::write(target.join("weir.toml"), "b").unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(told, Ok(Some(())), "the link's target is in a directory that is not watched");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_dropped_watcher_ends_its_thread() {
        let dir = directory("drop");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (watcher, mut changes) = Watcher::start(std::slice::from_ref(&file)).unwrap();
        drop(watcher);
        let ended = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(ended, Ok(None));
        fs::remove_dir_all(dir).unwrap();
    }
}
