//! A short run of the fuzz targets on any toolchain: the committed seeds and two thousand mutations
//! of each target's, the same ones every time.

#[expect(unreachable_pub, reason = "it is a library of its own in the fuzz workspace")]
#[path = "../fuzz/entry.rs"]
mod entry;

use std::fs;
use std::path::Path;

const MUTATIONS: usize = 2000;

/// Texts that break parsers, which a mutation inserts.
const PHRASES: [&[u8]; 16] = [
    b"\n\n",
    b"\r\n",
    b"data:",
    b"data: [DONE]\n\n",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\u0000",
    b"\xff",
    b"null",
    b"1e999",
    b"-",
    b"://",
    b"\xc2\xa0",
    b"'''",
];

/// xorshift64*: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (high as usize) % bound.max(1)
    }

    /// Returns the seed with one to four small changes.
    fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            let to = (at + self.below(16)).min(data.len());
            match self.below(6) {
                0 => drop(data.drain(at..to)),
                1 => drop(data.splice(at..at, PHRASES[self.below(PHRASES.len())].iter().copied())),
                2 => data.truncate(at),
                3 => data.extend_from_slice(&other[self.below(other.len() + 1)..]),
                4 => drop(data.splice(at..at, data[at..to].to_vec())),
                _ => data.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << self.below(8)),
            }
        }
        data
    }
}

fn smoke(target: &str, feed: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds.iter().for_each(|seed| feed(seed));
    feed(b"");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS {
        let (seed, other) = (&seeds[random.below(seeds.len())], &seeds[random.below(seeds.len())]);
        feed(&random.mutate(seed, other));
    }
}

#[test]
fn token() {
    smoke("token", entry::token);
}

#[test]
fn sse() {
    smoke("sse", entry::sse);
}

#[test]
fn ndjson() {
    smoke("ndjson", entry::ndjson);
}

#[test]
fn openai_answer() {
    smoke("openai_answer", entry::openai_answer);
}

#[test]
fn bedrock_answer() {
    smoke("bedrock_answer", entry::bedrock_answer);
}

#[test]
fn anthropic_answer() {
    smoke("anthropic_answer", entry::anthropic_answer);
}

#[test]
fn anthropic_request() {
    smoke("anthropic_request", entry::anthropic_request);
}

#[test]
fn event_stream() {
    smoke("event_stream", entry::event_stream);
}

#[test]
fn http1() {
    smoke("http1", entry::http1);
}

#[test]
fn json_edit() {
    smoke("json_edit", entry::json_edit);
}

#[test]
fn config() {
    smoke("config", entry::config);
}

#[test]
fn endpoint_url() {
    smoke("endpoint_url", entry::endpoint_url);
}
