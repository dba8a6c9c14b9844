//! Decisions on callers: whose tokens are accepted, and how many requests each may send. Newest
//! first.
//!
//! # 2026-11-26: Rate limits shared by several gateways
//!
//! **Decision.** One Lua script in Redis implements the same token bucket as the local one, in one
//! atomic step and one round trip, by Redis's clock. Charges travel with the caller's next request
//! or within a second, and are never sent twice. A check takes at most 50 ms. When it takes longer,
//! Redis counts as down: no request contacts it, and each gateway enforces its own buckets, which
//! have been kept up to date all along. A background task tries to reconnect once a second. RESP
//! and TLS come from the `redis` crate (the system's authorities, `SSL_CERT_FILE`).
//!
//! **Because.** What Redis misses while it is down has been counted by the local buckets.
//!
//! **Rejected.** A window of `INCR` and `EXPIRE`: it lets twice the rate through where two windows
//! meet, and it cannot compute when to retry. The `redis` crate's connection manager: it would make
//! requests wait.
//!
//! # 2026-11-26: Rate limits
//!
//! **Decision.** A token bucket of our own: it holds a minute's worth, refills evenly, and may go
//! below zero. A caller is a static key by its name, a GitLab by its instance id with all its users
//! (and the tokens of their IDEs), otherwise an address. The rates of a key override those of
//! `[limits]`. A request counts once it is admitted, whatever becomes of it; lists, tokens and
//! documentation cost no model time and do not count. At most 10,000 callers are remembered; beyond
//! that, full buckets are evicted first, which loses nothing.
//!
//! **Because.** What a response costs is known only when it has ended. GitLab does not retry a 429,
//! so an instance's rate is a fuse and not a schedule.
//!
//! **Rejected.** The `governor` crate: its buckets cannot go into debt. Charging an estimate up
//! front: it would reject requests that turn out to be cheap.
//!
//! # 2026-11-25: User tokens
//!
//! **Decision.** Tokens are signed with the operator's RSA key, otherwise with an Ed25519 key that
//! is generated at start-up. The `kid` of a key is its hash. A token is bound, when it is issued,
//! to the model that completes code. Where there is no such model, the request for a token is
//! refused. The only scope granted is `complete_code`. A request with such a token that names a
//! model's address is rejected with 403.
//!
//! **Because.** ring generates no RSA keys, and GitLab and the IDEs only carry the token. A token
//! without a model would be good for nothing; without one the IDE goes through GitLab, whose
//! requests name a model. The official gateway's other scope is for a proxy in GitLab that does not
//! accept our tokens. Addresses are for administrators to name, and IDEs name none.
//!
//! **Rejected.** The `rsa` crate: it has a timing advisory. The official gateway's answer without a
//! key, a 500. Its pair of fixed `kid` names: two replicas in the middle of a rotation would take
//! one key for the other.
//!
//! # 2026-11-24: GitLab's tokens
//!
//! **Decision.** A key verifies only tokens of the issuer that published it. One background task
//! fetches the keys; a request never does. A request waits for them for at most 2 s, and only 64
//! requests may wait at a time. Keys stay in force while GitLab is down; a gateway that has never
//! fetched one responds with 503, not 401. `iss` is compared with the name in the discovery
//! document. OpenAI's calls accept a token with any Duo scope.
//!
//! **Because.** Strangers can name keys that do not exist. Without keys, the token may well be
//! valid. Behind a proxy, the issuer's name may differ from `gitlab.url`.
//!
//! **Rejected.** Merging all key sets, as the official gateway does. A cache of verified tokens:
//! GitLab signs a new token for every request.
