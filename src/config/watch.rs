//! Notices that the content of a file has changed (the configuration, a certificate): an editor's
//! write or rename, Kubernetes' swap of the `..data` symlink, a bind mount. The directories are
//! watched, since those replace the file itself; and the content is compared every two seconds, for
//! file systems that tell nothing. The directory of the operator's prompts is watched with them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::config::section::prompts;

/// Writers write in pieces: wait until they are quiet for this long, but not longer than ten times
/// it.
const QUIET: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(2);

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Files, by their content.
    pub files: Vec<PathBuf>,
    /// A directory with all below it.
    pub tree: Option<PathBuf>,
}

/// Watches until it is dropped.
pub struct Watcher {
    /// Delivers events into the thread's queue; dropping it ends the thread.
    notify: Option<notify::RecommendedWatcher>,
    /// Keeps the thread alive where the system has no watcher.
    _alive: SyncSender<()>,
}

impl Watcher {
    /// Starts to watch. Each change sends one unit; changes that come while one is waiting are part
    /// of it.
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

/// `None` where the system cannot: the poll then serves alone.
fn watch_directories(
    watched: &Watched,
    events: SyncSender<()>,
) -> Option<notify::RecommendedWatcher> {
    let concerned = watched.clone();
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // reading the file is an event too: it would wake us for ever; so would a log beside it
        if event.map_or(true, |event| !event.kind.is_access() && concerned.has_any(&event.paths)) {
            // Full means that the thread is about to look anyway.
            let _ = events.try_send(());
        }
    });
    let mut watcher = made
        .map_err(|error| tracing::warn!(%error, "no file events here: files are polled"))
        .ok()?;
    let flat =
        watched.directories().into_iter().map(|directory| (directory, RecursiveMode::NonRecursive));
    for (directory, mode) in
        flat.chain(watched.tree.as_deref().map(|tree| (tree, RecursiveMode::Recursive)))
    {
        if let Err(error) = watcher.watch(directory, mode) {
            tracing::warn!(%error, directory = %directory.display(), "no file events there: it is polled every 2 s");
        }
    }
    Some(watcher)
}

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
        // A file that is gone between two halves of a rename comes back; one that stays away is
        // told.
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

/// Per file, then of the tree; `None` for a file that is not there.
type Digests = Vec<Option<u64>>;

impl Watched {
    fn directories(&self) -> BTreeSet<&Path> {
        let parents = self.files.iter().filter_map(|path| path.parent());
        parents
            .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            .collect()
    }

    /// Whether an event is about one of the files, about the link that Kubernetes swaps (`..data`),
    /// or in the tree.
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

    /// Hashes and not the content: the files may hold secrets. Of the tree, which is looked at
    /// every two seconds, names, sizes and times are enough.
    fn digests(&self) -> Digests {
        let of_file = |path: &PathBuf| {
            let mut hasher = DefaultHasher::new();
            std::fs::read(path).ok()?.hash(&mut hasher);
            Some(hasher.finish())
        };
        let mut tree = DefaultHasher::new();
        for path in self.tree.iter().flat_map(|tree| prompts::files(tree).unwrap_or_default()) {
            let seen = std::fs::metadata(&path).ok().map(|seen| (seen.len(), seen.modified().ok()));
            (path, seen).hash(&mut tree);
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

    /// A directory of this test's own with a configuration in it.
    fn directory(test: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("weir-watch-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn only(file: &std::path::Path) -> Watched {
        Watched { files: vec![file.to_owned()], tree: None }
    }

    /// No poll: what is told was told by an event.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn told(changes: &mut Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_secs(10), changes.recv())
            .await
            .is_ok_and(|unit| unit.is_some())
    }

    #[tokio::test]
    async fn tells_of_a_write_and_of_a_rename_over_the_file() {
        let dir = directory("write");
        let file = dir.join("weir.toml");
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) = Watcher::start_with(&only(&file), NEVER).unwrap();
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
        let (_watcher, mut changes) = Watcher::start_with(&only(&file), NEVER).unwrap();
        version("..2026_02", "b");
        assert!(told(&mut changes).await);
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
    async fn tells_of_a_change_below_the_directory_of_prompts() {
        let dir = directory("tree");
        let (file, tree) = (dir.join("weir.toml"), dir.join("prompts"));
        fs::create_dir_all(tree.join("chat")).unwrap();
        fs::write(&file, "a").unwrap();
        let (_watcher, mut changes) =
            Watcher::start_with(&Watched { tree: Some(tree.clone()), ..only(&file) }, NEVER)
                .unwrap();
        fs::write(tree.join("chat/base.toml"), "b").unwrap();
        assert!(told(&mut changes).await, "a new prompt");
        fs::remove_file(tree.join("chat/base.toml")).unwrap();
        assert!(told(&mut changes).await, "one less");
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
        let (_watcher, mut changes) = Watcher::start(&only(&file)).unwrap();
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
        let (watcher, mut changes) = Watcher::start(&only(&file)).unwrap();
        drop(watcher);
        let ended = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(ended, Ok(None));
        fs::remove_dir_all(dir).unwrap();
    }
}
