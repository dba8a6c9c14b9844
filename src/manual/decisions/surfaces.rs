//! Decisions on the APIs that clients call: OpenAI's, Anthropic's, and the smaller ones of GitLab.
//! Newest first.
//!
//! # 2026-11-25: An index of our own for the documentation
//!
//! **Decision.** One file, an inverted index with BM25, held in memory. A search runs on the worker
//! that received it.
//!
//! **Because.** 31,200 sections take 21 MiB, load in 50 ms and are searched in 0.2 to 0.7 ms.
//!
//! **Rejected.** tantivy: 127 more crates and a folder of files. The `bm25` crate: it has no file
//! format and would index 20 MiB on every reload. Memory-mapping: it needs `unsafe`.
//!
//! # 2026-11-25: Embeddings
//!
//! **Decision.** Models with the prefix `custom_openai/`, or with none, are accepted. `dimensions`
//! is passed to the model; where GitLab permits dropping it and the model rejects it, the request
//! is sent again without. When a model server rejects our key, the status is 401.
//!
//! **Because.** The official gateway returns 400 for those models. Whether dimensions are supported
//! depends on the model. The 401 is in GitLab's contract for this call: a background job reads it,
//! not a user.
//!
//! # 2026-11-25: CORS on every path
//!
//! **Decision.** The CORS headers are those of the official gateway, on every path. An unknown path
//! is 401 to callers without credentials. `/v1/models/definitions` needs none, as in the official
//! gateway.
//!
//! **Because.** CORS gives a page no additional rights, since nothing is authorised by cookies. The
//! definitions list names models, but no address.
//!
//! # 2026-11-25: Anthropic's surface
//!
//! **Decision.** An invalid request is 400 there. A thinking budget becomes OpenAI's
//! `reasoning_effort`: below 4096 tokens `low`, below 16384 `medium`, otherwise `high`. Images in a
//! tool result follow it as content of the user. Betas are passed by an allow-list of names; the
//! others are dropped with a note in the access log.
//!
//! **Because.** Anthropic's API has no 422, and its clients choose their error classes by status.
//! Those three are the only values that OpenAI's API has for thinking. Every server accepts images
//! of the user. A client sends its whole list of betas with every request.
//!
//! **Rejected.** Refusing thinking budgets: it would shut out Claude Code, which requests thinking
//! by default.
//!
//! # 2026-11-25: The models of `/v1/proxy`
//!
//! **Decision.** The model is chosen by the unit primitive, then by `features.default`, unless the
//! file has a model of exactly the name in the request. Without `X-Gitlab-Unit-Primitive` the
//! default is used. The unit primitive's scope is not checked separately. Google's embeddings
//! (`vertex-ai`) and OpenAI's `responses` are 404.
//!
//! **Because.** These requests name models of GitLab's choice, which nobody runs on premises.
//! `description_composer` is no feature of GitLab's settings, so it needs the default. A caller of
//! the proxy may call the same models through OpenAI's path.
//!
//! **Rejected.** The official gateway's 400 without the header.
//!
//! # 2026-11-24: A model server that rejects our key is 502
//!
//! **Decision.** A model server's 401 or 403 becomes a 502. Test connection still reports it as 421
//! with `"401: Unauthorized"`.
//!
//! **Because.** It concerns the operator's key. Passed on, GitLab would advise the user to buy a
//! subscription (M3006), and an OpenAI client would report that its own key is wrong.
//!
//! # 2026-11-24: The head waits for the first byte of the body
//!
//! **Decision.** The head of a response is held until the first byte of its body arrives. An
//! expired `first_byte` is therefore a 504 with A1000 on every surface that has not sent its head
//! yet.
//!
//! **Because.** Model servers send their head before the first token. Forwarding it at once would
//! turn every later failure into an in-band error, and waiting costs nothing, since a client can do
//! nothing with a head alone.
//!
//! # 2026-11-24: `disabled` is 403
//!
//! **Decision.** A feature set to `"disabled"` is rejected with 403.
//!
//! **Because.** It is the administrator's decision about entitlement, and GitLab's text for a 403
//! sends the user to the administrator.
//!
//! # 2026-11-24: Test connection ignores `[features]`
//!
//! **Decision.** Test connection calls the model in the form, whatever `[features]` contains.
//! `request_models` still applies.
//!
//! **Because.** The button tests the model in the form; a response from another model would be
//! misleading.
