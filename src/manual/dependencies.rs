//! What Weir is made of: every crate that `Cargo.toml` names, and why.
//! `tests/tidy/` holds the two lists together, words included.
//!
//! A crate joins when it is well kept, when we would write it worse, and when what it pulls in is
//! worth it (`decisions` has those that were turned down). All come with
//! `default-features = false`: what is compiled is what is named. `Cargo.lock` pins every version,
//! and is committed; `.ci/deny` checks licences, banned crates (a second TLS stack, a second
//! cryptography library, an HTTP client of its own), sources (crates.io alone), and the RustSec
//! advisories where their database can be had, which is what `cargo audit` would check.
//!
//! # In the binary
//!
//! | crate | why |
//! |---|---|
//! | `arc-swap` | the one snapshot, swapped on reload |
//! | `aws-config` | AWS's credential chain; no client of its own, ours is given to it |
//! | `aws-credential-types` | what aws-sigv4 takes as keys |
//! | `aws-sigv4` | Bedrock's request signatures |
//! | `aws-smithy-eventstream` | Bedrock's binary stream |
//! | `aws-smithy-runtime-api` | the trait by which that chain takes our client |
//! | `aws-smithy-types` | that stream's messages |
//! | `base64` | the tokens that we sign; jsonwebtoken already brings it |
//! | `bytes` | bodies that pass through uncopied |
//! | `clap` | the command line |
//! | `crc32fast` | a frame's length is checked before its bytes are waited for |
//! | `der` | a certificate's validity dates; x509-cert, built on it, is four crates more and decodes the rest too |
//! | `fastrand` | request ids; not for secrets |
//! | `futures-util` | all streams of an HTTP/2 connection in one task; aws-config already brings it |
//! | `http` | the types both sides share |
//! | `http-body` | RelayBody is one |
//! | `http-body-util` | collecting, limits |
//! | `httparse` | response heads of model servers; hyper already brings it |
//! | `hyper` | HTTP towards clients: what they send is parsed by it |
//! | `hyper-util` | hyper's I/O and timer on tokio |
//! | `itoa` | numbers in the access log, no allocation |
//! | `jsonwebtoken` | GitLab's tokens; no crypto of its own, ring verifies |
//! | `memchr` | finding frames and keys in passing bytes |
//! | `minijinja` | prompt templates: sandboxed, with fuel |
//! | `notify` | configuration file changes |
//! | `prometheus` | /metrics |
//! | `pulldown-cmark` | the documentation's headings, code and links, by CommonMark; rustdoc's parser |
//! | `redis` | limits.shared: counts of several gateways; its own RESP and TLS, nothing else of it |
//! | `ring` | SHA-256 of static keys; rustls already brings it |
//! | `rust-stemmers` | "protected" finds "protect" in the documentation; tantivy's and bm25's too |
//! | `rustix` | listening sockets are handed to the next process, and no core dumps, without `unsafe` of ours |
//! | `rustls` | TLS to upstreams |
//! | `rustls-native-certs` | the system's certificate authorities |
//! | `semver` | the version constraints that GitLab sends |
//! | `serde` | request bodies |
//! | `serde_json` | JSON; raw_value finds what to splice; a schema keeps its order, which models follow |
//! | `serde_path_to_error` | where in a body the fault is |
//! | `socket2` | SO_REUSEPORT, keep-alive |
//! | `strsim` | "did you mean" for configuration keys |
//! | `subtle` | constant-time comparison of keys |
//! | `thiserror` | error types, one per layer |
//! | `tokio` | the runtime: one per core |
//! | `tokio-rustls` | rustls on tokio's sockets |
//! | `toml` | the configuration file, with spans |
//! | `tower` | the server edge's layers |
//! | `tracing` | the operator's log |
//! | `tracing-subscriber` | where that log goes |
//! | `zeroize` | secrets leave no copy behind |
//!
//! # In tests and benches only
//!
//! | crate | why |
//! |---|---|
//! | `divan` | benches/codec.rs: time and allocations |
//! | `h2` | a client of HTTP/2 that can reset, stall and see a goodbye |
//! | `rcgen` | certificates of the tests: authorities, wrong names, dates |
//! | `tokio` | a clock that tests turn, threads for the loads |
