//! The thread that writes the access log, so that a slow pipe never stalls a worker. Its queue is
//! bounded: lines over it are dropped and counted in `weir_access_log_lines_dropped_total`.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use prometheus::IntCounter;

/// Capacity of the queue in batches; a batch is at most about 32 KiB.
const QUEUE: usize = 256;

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
        let thread = std::thread::Builder::new()
            .name("weir-log".into())
            .spawn(move || write_all(&batches, out))?;
        Ok((Self { queue, dropped }, thread))
    }

    /// Queues a batch of whole lines, or counts them as dropped when the queue is full.
    pub fn send(&self, batch: Vec<u8>) {
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) =
            self.queue.try_send(batch)
        {
            self.dropped.inc_by(memchr::memchr_iter(b'\n', &lost).count() as u64);
        }
    }
}

fn write_all(batches: &Receiver<Vec<u8>>, mut out: Box<dyn Write + Send>) {
    while let Ok(batch) = batches.recv() {
        // A closed pipe ends the log, not the gateway.
        if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
            tracing::error!("standard output is closed: the access log ends here");
            return;
        }
    }
}
