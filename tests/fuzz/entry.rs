//! What each fuzz target feeds, and what must hold whatever the bytes. The targets and the smoke
//! test of `tests/gateway/fuzz_smoke.rs` share these functions, so that a bare toolchain fuzzes a
//! little too.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::value::RawValue;
use weir::api::read_messages_request;
use weir::auth::{Discovery, Expected, KeySet, Token};
use weir::config::{self, Environment};
use weir::generation::{Delta, Generation};
use weir::model::{Access, EndpointUrl, Model, ProviderKind, Scheme, TimeoutsPatch};
use weir::provider::{Decode, Outbound, dialect};
use weir::wire::{
    Edits, EventStreamFrames, SseFrames, event_data, read_response_head, span_of, write_json_line,
};

/// Cuts `data` into pieces whose sizes depend on the bytes themselves, from 1 to 64.
fn pieces(data: &[u8]) -> Vec<Bytes> {
    let (mut rest, mut out) = (data, Vec::new());
    while let Some(first) = rest.first() {
        let (piece, after) = rest.split_at(rest.len().min(1 + usize::from(*first) % 64));
        out.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    out
}

/// Every event and the rest; what went in comes out, whatever the cuts.
fn events(chunks: Vec<Bytes>) -> (Vec<Bytes>, Bytes) {
    let (mut frames, mut out) = (SseFrames::new(usize::MAX), Vec::new());
    for chunk in chunks {
        frames.feed(chunk);
        while let Ok(Some(event)) = frames.next_event() {
            out.push(event);
        }
    }
    (out, frames.take_rest())
}

/// Framing loses nothing and does not depend on how the bytes arrive; a limit is a limit.
pub fn sse(data: &[u8]) {
    let (whole, rest) = events(vec![Bytes::copy_from_slice(data)]);
    assert_eq!([whole.concat(), rest.to_vec()].concat(), data);
    assert_eq!(events(pieces(data)), (whole.clone(), rest));
    whole.iter().for_each(|event| drop(event_data(event)));
    let mut small = SseFrames::new(16);
    small.feed(Bytes::copy_from_slice(data));
    while let Ok(Some(event)) = small.next_event() {
        assert!(event.len() <= 16);
    }
}

fn decode(kind: ProviderKind, chunks: Vec<Bytes>) -> (Vec<Delta>, bool) {
    let (mut decoder, mut out) = (dialect(kind).stream_decoder(&Generation::default()), Vec::new());
    let fed = chunks.into_iter().try_for_each(|chunk| decoder.feed(chunk, &mut out));
    let ended = fed.and_then(|()| Decode::finish(&mut *decoder, &mut out));
    (out, ended.is_ok())
}

/// Whatever a model says is one line of ASCII that reads back.
pub fn ndjson(data: &[u8]) {
    let stated = String::from_utf8_lossy(data);
    let (value, mut out) =
        (serde_json::json!({ stated.as_ref(): [stated.as_ref()] }), BytesMut::new());
    write_json_line(&value, &mut out);
    let line = out.strip_suffix(b"\n").expect("a line");
    assert!(
        line.is_ascii() && !line.contains(&b'\n') && line.starts_with(b"{") && line.ends_with(b"}")
    );
    assert_eq!(serde_json::from_slice::<serde_json::Value>(line).expect("JSON"), value);
}

/// A hostile model server: never a panic, and a stream reads the same however it arrives.
fn answer_of(kind: ProviderKind, data: &[u8]) {
    assert_eq!(decode(kind, pieces(data)), decode(kind, vec![Bytes::copy_from_slice(data)]));
    let info = dialect(kind).inspect_event(data);
    assert!(!info.only_usage || info.usage.is_some(), "{info:?}");
    let (_, _) = (
        dialect(kind).parse_usage(data),
        dialect(kind).decode_response(&Generation::default(), data),
    );
    let status = StatusCode::from_u16(400 + data.first().map_or(0, |b| u16::from(*b) % 200));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(data) {
        headers.insert(header::RETRY_AFTER, value);
    }
    drop(dialect(kind).error_from_response(
        status.expect("400 to 599"),
        &headers,
        &Bytes::copy_from_slice(data),
    ));
}

/// OpenAI's dialect.
pub fn openai_answer(data: &[u8]) {
    answer_of(ProviderKind::OpenAi, data);
    answer_of(ProviderKind::Azure, data);
}

/// Bedrock's dialect.
pub fn bedrock_answer(data: &[u8]) {
    answer_of(ProviderKind::Bedrock, data);
}

/// Anthropic's dialect.
pub fn anthropic_answer(data: &[u8]) {
    answer_of(ProviderKind::Anthropic, data);
}

/// A request in Anthropic's format: what is parsed can be encoded for every provider or is refused by
/// name, and what is encoded for Anthropic is parsed again.
pub fn anthropic_request(data: &[u8]) {
    let received = match read_messages_request(data) {
        Ok(received) => received,
        Err(error) => return assert!(!error.public().is_empty()),
    };
    let model = |provider| Model {
        id: "m".into(),
        provider,
        upstream_name: "m".into(),
        family: std::sync::Arc::default(),
        endpoints: Vec::new(),
        api_key: None,
        access: Access::Key,
        timeouts: TimeoutsPatch::default(),
        replicas: weir::model::ReplicaSettings::default(),
        concurrency: None,
        priority: false,
        from_request: false,
    };
    drop(
        dialect(ProviderKind::OpenAi)
            .encode(&received, &model(ProviderKind::OpenAi))
            .expect("OpenAI has words for all"),
    );
    if let Ok(outbound) =
        dialect(ProviderKind::Anthropic).encode(&received, &model(ProviderKind::Anthropic))
    {
        let again = read_messages_request(&outbound.body.to_bytes());
        // blank texts stay behind, and nothing may be left
        assert!(
            again.is_ok_and(|again| again.sampling.stop == received.sampling.stop)
                || empty_request(&outbound)
        );
    }
}

fn empty_request(outbound: &Outbound) -> bool {
    let body: serde_json::Value =
        serde_json::from_slice(&outbound.body.to_bytes()).expect("our own JSON");
    body["messages"].as_array().is_some_and(Vec::is_empty)
}

/// AWS's frames: the same ones however the bytes arrive, and none after the first bad one.
pub fn event_stream(data: &[u8]) {
    let frames = |chunks: Vec<Bytes>| {
        let (mut frames, mut out) = (EventStreamFrames::new(1 << 16), Vec::new());
        for chunk in chunks {
            frames.feed(&chunk);
            loop {
                match frames.next_frame() {
                    Ok(Some(frame)) => out.push(format!("{frame:?}")),
                    Ok(None) => break,
                    Err(error) => return (out, Some(error.to_string())),
                }
            }
        }
        (out, None)
    };
    assert_eq!(frames(pieces(data)), frames(vec![Bytes::copy_from_slice(data)]));
}

/// A response of a hostile server: the same head, body and verdict however the bytes arrive. Bytes
/// before a fault may or may not have been handed on.
pub fn http1(data: &[u8]) {
    let read = |chunks: Vec<Bytes>| {
        let (mut buffer, mut body, mut framing) = (BytesMut::new(), BytesMut::new(), None);
        for chunk in chunks {
            buffer.extend_from_slice(&chunk);
            if framing.is_none() {
                framing = read_response_head(&mut buffer)
                    .map_err(|error| error.0)?
                    .map(|head| (head.framing, head));
            }
            if let Some((framing, _)) = &mut framing {
                framing.decode(&buffer.split(), &mut body).map_err(|error| error.0)?;
            }
        }
        let read = framing.map(|(framing, head)| {
            (framing.is_complete(), head.status, head.headers, head.keep_alive)
        });
        Ok::<_, &str>((read, body))
    };
    assert_eq!(read(pieces(data)), read(vec![Bytes::copy_from_slice(data)]));
}

/// Replacing a member of an object leaves an object with that member replaced and all else as it
/// was.
pub fn json_edit(data: &[u8]) {
    let Ok(fields) = serde_json::from_slice::<std::collections::BTreeMap<String, &RawValue>>(data)
    else {
        return assert_eq!(span_of(data, RawValue::NULL), None);
    };
    for (name, raw) in &fields {
        let (body, mut edits) = (Bytes::copy_from_slice(data), Edits::default());
        let index_path = span_of(data, raw).expect("borrowed from the body");
        assert_eq!(&data[index_path.clone()], raw.get().as_bytes());
        edits.replace(index_path, "\"spliced\"");
        assert!(edits.add_member(&body, "\"added by weir\":1"));
        let edited = edits.apply(&body).to_bytes();
        let after: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_slice(&edited).expect("still an object");
        // a name that stands twice keeps its other value: then only one of the two was replaced
        assert!(after.contains_key(name) && after.contains_key("added by weir"));
    }
}

/// A configuration is accepted or refused with faults; never a panic, never an empty refusal.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(faults) = config::from_str(text, "weir.toml", &Environment::default()) {
        assert!(faults.errors() > 0);
        faults.iter().for_each(|fault| assert!(!fault.render(false).is_empty()));
    }
}

/// What parses prints as itself, and has a host and a port.
pub fn endpoint_url(data: &[u8]) {
    let Some(url) = std::str::from_utf8(data).ok().and_then(|text| EndpointUrl::parse(text).ok())
    else {
        return;
    };
    assert!(!url.host().is_empty() && url.port() > 0 && !url.base_path().ends_with('/'));
    assert_eq!(EndpointUrl::parse(&url.to_string()).expect("its own text parses"), url);
}

/// A bearer token, a key set, a discovery document: none panics, and the only token that is
/// believed is the one that was signed.
pub fn token(data: &[u8]) {
    const GOLDEN: &[u8] = include_bytes!("../golden/jwt/token.txt");
    static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
        KeySet::parse(include_bytes!("../golden/jwt/jwks.json")).expect("our own keys")
    });
    if let Ok(token) = Token::parse(data)
        && let Some(key) = KEYS.get(token.kid())
    {
        let expected =
            Expected { issuer: "https://gitlab.example.com", audience: "gitlab-ai-gateway" };
        let now = UNIX_EPOCH + Duration::from_secs(1_762_430_400);
        assert!(token.verify(key, expected, now).is_err() || data == GOLDEN.trim_ascii_end());
    }
    if let Ok(keys) = KeySet::parse(data) {
        assert!(!keys.is_empty() && keys.len() <= 64);
    }
    let url = EndpointUrl::parse("https://gitlab.example.com").expect("a URL");
    if let Ok(found) = Discovery::parse(data, &url) {
        assert_eq!(found.jwks_uri.scheme(), Scheme::Https);
    }
}
