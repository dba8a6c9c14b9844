//! The hot paths, each as one operation that can be repeated: `codec.rs` times them, `icount.rs`
//! counts their instructions. What runs once per streamed chunk, and what runs once per request.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use weir::generation::{Generation, Usage};
use weir::model::ProviderKind;
use weir::provider::{Dialect, dialect};
use weir::telemetry::labels::Surface;
use weir::telemetry::{AccessLog, Record, RequestInfo, Sink, TraceIds};
use weir::wire::{Edits, SseFrames, event_data, span_of};

/// One hot path.
pub(crate) struct HotPath {
    /// As the tables say it.
    pub(crate) name: &'static str,
    /// Sets the stage, and returns the operation.
    pub(crate) prepare: fn() -> Box<dyn FnMut()>,
}

impl std::fmt::Display for HotPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub(crate) const ALL: &[HotPath] = &[
    HotPath { name: "sse: frame a whole event", prepare: || framing(&[EVENT]) },
    HotPath { name: "sse: frame an event cut in two", prepare: || framing(&halves()) },
    HotPath { name: "sse: data of an event", prepare: data },
    HotPath { name: "openai: look at a content chunk", prepare: || look(content()) },
    HotPath { name: "openai: look at the usage chunk", prepare: || look(USAGE) },
    HotPath { name: "openai: decode a chunk", prepare: decode },
    HotPath { name: "openai: usage of a 1 KB answer", prepare: usage },
    HotPath { name: "json: splice model, 1 KB", prepare: || splice(1 << 10) },
    HotPath { name: "json: splice model, 1 MB", prepare: || splice(1 << 20) },
    HotPath { name: "telemetry: ids of a request", prepare: ids },
    HotPath { name: "telemetry: access-log line", prepare: access_log },
];

const EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-81ac59df4e1c4bb1\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\"model\":\"mistral-small\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" lorem ipsum\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const USAGE: &[u8] = b"{\"id\":\"chatcmpl-81ac59df4e1c4bb1\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,\"model\":\"mistral-small\",\"choices\":[],\"usage\":{\"prompt_tokens\":812,\"total_tokens\":912,\"completion_tokens\":100,\"prompt_tokens_details\":null}}";

fn halves() -> [&'static [u8]; 2] {
    [&EVENT[..100], &EVENT[100..]]
}

fn content() -> &'static [u8] {
    EVENT.trim_ascii().strip_prefix(b"data: ").unwrap_or(EVENT)
}

fn openai() -> &'static dyn Dialect {
    dialect(ProviderKind::OpenAi)
}

fn framing(pieces: &[&'static [u8]]) -> Box<dyn FnMut()> {
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let mut frames = SseFrames::new(1 << 20);
    Box::new(move || {
        for piece in &pieces {
            frames.feed(piece.clone());
            while let Ok(Some(event)) = frames.next_event() {
                black_box(event);
            }
        }
    })
}

fn data() -> Box<dyn FnMut()> {
    Box::new(|| {
        black_box(event_data(black_box(EVENT)));
    })
}

fn look(data: &'static [u8]) -> Box<dyn FnMut()> {
    let openai = openai();
    Box::new(move || {
        black_box(openai.inspect_event(black_box(data)));
    })
}

fn decode() -> Box<dyn FnMut()> {
    let event = Bytes::from_static(EVENT);
    let (mut decoder, mut deltas) = (openai().stream_decoder(&Generation::default()), Vec::new());
    Box::new(move || {
        deltas.clear();
        decoder.feed(event.clone(), &mut deltas).expect("a chunk of the dialect");
        black_box(&deltas);
    })
}

fn usage() -> Box<dyn FnMut()> {
    let text = "x".repeat(800);
    let body = format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":812,\"total_tokens\":912,\"completion_tokens\":100}}}}"
    );
    let openai = openai();
    Box::new(move || {
        black_box(openai.parse_usage(black_box(body.as_bytes())));
    })
}

/// What passing a body on needs to know of it.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    stream: Option<bool>,
}

fn splice(size: usize) -> Box<dyn FnMut()> {
    let text = "lorem ipsum dolor sit amet, \\\"consectetur\\\"\\n".repeat(size / 45);
    let body = Bytes::from(format!(
        "{{\"model\":\"duo\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"max_tokens\":256,\"stream\":true}}"
    ));
    Box::new(move || {
        let peek: Peek<'_> = serde_json::from_slice(black_box(&body)).expect("JSON");
        let mut edits = Edits::default();
        edits.replace(span_of(&body, peek.model).expect("borrowed from it"), "\"mistral-small\"");
        black_box((edits.apply(&body), peek.stream));
    })
}

fn ids() -> Box<dyn FnMut()> {
    let headers = HeaderMap::new();
    Box::new(move || {
        black_box(TraceIds::of(black_box(&headers)).traceparent());
    })
}

fn access_log() -> Box<dyn FnMut()> {
    let (mut log, mut line) = (AccessLog::default(), Vec::new());
    let record = record();
    let now = record.facts.started + Duration::from_micros(1_234_567);
    Box::new(move || {
        line.clear();
        log.line(black_box(&record.facts), now, &mut line);
        black_box(&line);
    })
}

/// A streamed request that went well.
fn record() -> Record {
    let ids = TraceIds::of(&HeaderMap::new());
    let mut record =
        Record::open(Arc::new(Nowhere), Surface::OpenAiChat, ids, Some([127, 0, 0, 1].into()));
    let facts = &mut record.facts;
    let after = |micros| Some(facts.started + Duration::from_micros(micros));
    facts.upstream_started = after(30);
    facts.first_token = after(80_000);
    facts.upstream_ended = after(1_234_500);
    facts.feature = "duo_chat";
    facts.model = Arc::from("mistral-small");
    facts.provider = "openai";
    facts.stream = true;
    facts.status = 200;
    facts.complete = true;
    facts.usage = Usage { input: 812, output: 100, cached: 0, reasoning: 0 };
    facts.bytes_in = 1024;
    facts.bytes_out = 21_000;
    record
}

struct Nowhere;

impl Sink for Nowhere {
    fn begin(&self, _: Surface) {}
    fn finish(&self, _: &RequestInfo) {}
}
