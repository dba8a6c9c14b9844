//! The access log, collected and read as JSON.

use std::io::Write;

use serde_json::Value;
use tokio::sync::watch;

use super::soon;

/// A sink for the gateway and a reader for the test.
#[derive(Clone)]
pub(crate) struct Log(watch::Sender<Vec<u8>>);

impl Default for Log {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send_modify(|text| text.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Returns everything, for searches that must find nothing.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }

    /// Returns every complete line. One that is not JSON fails the test.
    pub(crate) fn lines(&self) -> Vec<Value> {
        parse(&self.0.borrow())
    }

    /// Waits for the line of this request.
    pub(crate) async fn line(&self, request_id: &str) -> Value {
        let mut text = self.0.subscribe();
        let found =
            |text: &Vec<u8>| parse(text).into_iter().find(|line| line["request_id"] == request_id);
        let text =
            soon("the access-log line", text.wait_for(|text| found(text).is_some())).await.unwrap();
        found(&text).unwrap()
    }
}

fn parse(text: &[u8]) -> Vec<Value> {
    let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines = text[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}
