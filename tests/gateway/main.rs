//! The integration tests: a real gateway, real sockets, a model server that follows a script. One
//! binary, so that it links once; one module per topic.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod access_log; // one line per request, ids in and out, secrets nowhere
mod anthropic; // Anthropic's Messages API on every kind of model, and through GitLab's proxy
mod bad_input; // a 4xx that says what is wrong, and no harm
mod browsers; // GitLab's Web IDE, paths that are none, the list of models
mod canary; // a secret in every slot, prompts, core dumps: nowhere
mod chaos; // every fault of a model server on every call
mod chat_agent; // GitLab Duo Chat: the loop, native and ReAct tool calls
mod chat_agent_faults; // what its user sees when something fails
mod chat_v1; // GitLab's troubleshooting curl
mod cloud; // GitLab's cloud gateway: byte for byte, and nothing of ours
mod code_suggestions; // what editors get: JSON, raw text, events, errors
mod code_suggestions_requests; // what models get: FIM tokens, instructions, budgets
mod config_faults; // broken files, every fault at once
mod credentials; // AWS's chain, Entra ID: fetched in the background
mod disconnect; // a client that leaves cancels the upstream
mod docs_search; // GitLab's documentation, with and without an index
mod embeddings; // vectors for semantic code search
mod failover; // what fails before the first content goes to the next replica
mod fallback; // another model instead of one that failed before its first token
mod framing; // how model servers frame their answers
mod fuzz_smoke; // the fuzz targets, a little, on any toolchain
mod golden; // translations as files
mod hedging; // a second attempt next to a slow one
mod http2; // HTTP/2: what holds of HTTP/1.1 holds of its streams, too
mod http2_bounds; // what one connection can make the gateway hold
mod hygiene; // which headers go on, and that one request is one
mod model_check; // GitLab's Test connection
mod monitoring; // probes, 404, 405, the admin listener
mod openai; // bytes pass, the model is replaced, usage is tapped
mod overload; // concurrency limits of a model: queues, classes, shedding, goodput
mod priority; // the order of a model server's own queue
mod prompt_answers; // every prompt, and what GitLab reads out of its answer
mod prompts; // what GitLab sends to a model by a prompt's id
mod proxy; // a proxy for outbound requests: what goes through it, and what never does
mod rates; // requests and tokens per minute, models per key
mod reload; // another file in force without a lost request
mod replicas; // who gets the requests when replicas fail, are full, come back
mod routing; // the rules of precedence, and what must never be called
mod shared_limits; // rates that several gateways count together
mod slow_readers; // clients that do not read stall no others
mod stale; // dead connections, rubbish, cut streams
mod stopping; // a drain: requests in flight finish, no client meets a close
mod timeouts; // the four limits are A1000 on every surface
mod tls; // TLS towards clients: certificates, reloads, clients that leave
mod tls_out; // TLS towards model servers: server and client certificates
mod upgrade; // one process replaces another, and no request is lost
mod usage; // token counts of streams that end before they are counted

#[path = "../identity/signing.rs"]
mod signing; // tokens as GitLab signs them
mod support; // gateway, scripted upstream, raw client, metrics, access log
