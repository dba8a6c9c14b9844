//! The thread that writes the access log, so that a slow pipe never stalls a worker. Its queue is
//! bounded: lines over it are dropped and counted in `weir_access_log_lines_dropped_total`.

use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

/// Capacity of the queue in batches; a batch is at most about 32 KiB.
const QUEUE: usize = 256;
/// The shortest time between two reports of lost lines.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// The longest time that a batch waits for a full pipe.
const MAX_BLOCKED: Duration = Duration::from_secs(1);

/// Handle of the writer thread. Cloning it is cheap; the thread ends when the last clone is
/// dropped.
#[derive(Clone)]
pub struct LogWriter {
    queue: SyncSender<Vec<u8>>,
    dropped: IntCounter,
}

impl LogWriter {
    /// Starts the thread, which writes batches to `out` until every handle is dropped. Fails when
    /// the system refuses a thread.
    pub fn start(
        out: Box<dyn Write + Send>,
        dropped: IntCounter,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, batches) = sync_channel(QUEUE);
        let counter = dropped.clone();
        let thread = std::thread::Builder::new()
            .name("weir-log".into())
            .spawn(move || write_all(&batches, out, &counter))?;
        Ok((Self { queue, dropped }, thread))
    }

    /// Queues a batch of whole lines, or counts them as dropped when the queue is full.
    pub fn send(&self, batch: Vec<u8>) {
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) =
            self.queue.try_send(batch)
        {
            self.dropped.inc_by(lines_in(&lost));
        }
    }
}

/// Writes batches until every handle is dropped or the reader is gone. Any other error (a full disk,
/// a reader of a non-blocking pipe that is too slow) loses a batch, not the log: its lines are
/// counted, and reported at most once in [`REPORT_INTERVAL`].
fn write_all(batches: &Receiver<Vec<u8>>, mut out: Box<dyn Write + Send>, dropped: &IntCounter) {
    let (mut failing_since, mut reported): (Option<Instant>, Option<Instant>) = (None, None);
    while let Ok(batch) = batches.recv() {
        let Err(error) = write_batch(&mut *out, &batch) else {
            if let Some(since) = failing_since.take() {
                let seconds = since.elapsed().as_secs();
                tracing::info!(seconds, "the access log is written again");
            }
            continue;
        };
        dropped.inc_by(lines_in(&batch));
        if matches!(error.kind(), ErrorKind::BrokenPipe) {
            tracing::error!("the reader of standard output is gone: the access log ends here");
            return;
        }
        failing_since.get_or_insert_with(Instant::now);
        if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            reported = Some(Instant::now());
            tracing::error!(%error, "access-log lines are lost: standard output cannot be written");
        }
    }
}

/// Writes a batch, and waits up to [`MAX_BLOCKED`] for a pipe that is full.
fn write_batch(out: &mut dyn Write, mut batch: &[u8]) -> std::io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        let written = if batch.is_empty() { out.flush().map(|()| 0) } else { out.write(batch) };
        match written {
            Ok(0) if batch.is_empty() => return Ok(()),
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => batch = &batch[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && waited < MAX_BLOCKED => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(error) => return Err(error),
        }
    }
}

fn lines_in(batch: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', batch).count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Result, Write};
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    use prometheus::IntCounter;

    use super::write_all;

    /// A writer that fails at the given calls.
    struct Faulty {
        errors: Vec<Option<ErrorKind>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            match (!self.errors.is_empty()).then(|| self.errors.remove(0)).flatten() {
                Some(kind) => Err(kind.into()),
                None => self.written.lock().unwrap().write(bytes),
            }
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn batches(lines: &[&str]) -> Receiver<Vec<u8>> {
        let (queue, batches) = channel();
        lines.iter().for_each(|line| queue.send(format!("{line}\n").into()).unwrap());
        batches
    }

    /// Returns what was written, and how many lines were dropped.
    fn written(errors: &[Option<ErrorKind>]) -> (String, u64) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let out = Faulty { errors: errors.to_vec(), written: Arc::clone(&written) };
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        write_all(&batches(&["a", "b", "c"]), Box::new(out), &dropped);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        (text, dropped.get())
    }

    #[test]
    fn a_full_disk_loses_lines_and_not_the_log() {
        let full = Some(ErrorKind::StorageFull);
        assert_eq!(written(&[full, full]), ("c\n".to_owned(), 2));
    }

    #[test]
    fn a_full_pipe_is_waited_for() {
        let blocked = Some(ErrorKind::WouldBlock);
        assert_eq!(written(&[blocked, blocked]), ("a\nb\nc\n".to_owned(), 0));
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_log() {
        assert_eq!(written(&[None, Some(ErrorKind::BrokenPipe)]), ("a\n".to_owned(), 1));
    }
}
