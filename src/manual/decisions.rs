//! Dated decisions, newest first. What was rejected is said, so that it need not be tried again
//! unknowingly.
//!
//! **2026-11-26, HTTP/2 towards clients.** hyper speaks it, by ALPN or by its preface in the clear;
//! no key turns it off, since a client that wants HTTP/1.1 has it. All streams of a connection run
//! in its one task (`FuturesUnordered`), not in tasks of their own: when the connection goes, they
//! are dropped with it, at once, and no task outlives its worker's last log line. hyper does not
//! ask a body for more while its stream has no window, so whatever runs a stream looks after its
//! body meanwhile (`server/outlet.rs`): its limits run, and who takes nothing for 2 s after them is
//! reset. A task and a channel for each body were rejected: one more hop for each token, and the
//! stuck stream would still be there. Bodies go out in pieces of 16 KiB, since hyper hands over
//! what it has taken whatever the window. The bounds are constants in `server/http2.rs`, not keys:
//! no operator can know better ones, and `limits.*` hold as for HTTP/1.1. Weir says goodbye
//! (GOAWAY) as soon as it stops, and to a connection without a stream for `limits.header_timeout`,
//! as HTTP/1.1's are closed. Streams stay in hyper here: a proxy that multiplexes has few
//! connections, and it was the buffers of many that `handover` saves.
//!
//! **2026-11-26, whose request goes first at vLLM.** `priority = true` of a model puts 0, 1 or 2
//! into every body that goes there, by the classes that wait for `max_parallel`, in one place for
//! all surfaces (`relay`), embeddings too, which take it. It stands over what the client says,
//! every time it says it: whoever could name his own number would overtake everybody. vLLM's order
//! is strict, and when its cache is full it takes back what it runs for the lowest. Off by default:
//! by its documentation vLLM refuses numbers without `--scheduling-policy priority`. 0.32 takes
//! them and goes by none (seen), so nothing tells an operator who forgot it.
//!
//! **2026-11-26, the end of a drain.** What `resilience.drain` does not leave time for fails as at
//! an expired total: one signal per worker ends the making of an answer and every stream, and each
//! tells its client in its surface's own words. It is no model's failure and goes to no other one:
//! there is no time. To GitLab's chat it is worth another try, which reaches whoever has taken
//! over. `drain` is 25 s by default, since Kubernetes kills after 30 s whoever has not said their
//! last words.
//!
//! **2026-11-26, whoever does not read.** hyper asks a body for more only when the socket takes
//! more, so none of our limits ran for an answer of known length or to a client of HTTP/1.0: its
//! model server was held as long as the client liked. They leave hyper now as streams do, and meet
//! the total. What is there already, whole, hyper still writes: it holds nothing but its bytes.
//!
//! **2026-11-26, an error with status 200.** A whole answer that is passed on and whose first key
//! is `error` (not `null`), or `type` with the value `error`, is held back and read, by the same
//! eyes as an event of a stream; if it is an error it has failed like any other before the first
//! content. Other answers are passed after a look at their first bytes; an `error` further back is
//! the client's to see.
//!
//! **2026-11-26, hedging.** Off: it costs model time, and is worth it only where single requests
//! are slow by chance. On, a model with several endpoints has a second line of attempts, begun once
//! the first has taken longer than `percentile` of the last few hundred answers took to begin;
//! without twenty of those there is none. Each line has an account of its own, and the one that
//! answers is the record's. It is a race of first contents, not of heads; the loser is dropped,
//! which closes its connection. The budget saves nothing up: hedges are for chance, and what fails
//! is the retry's. The second has a place of its own under `max_parallel` if one is free: it does
//! not wait for one, which could push out another's request.
//!
//! **2026-11-26, health checks.** On where a model of an OpenAI-compatible server has several
//! endpoints: a server that hangs would cost a user the whole `first_byte`, and one that is back
//! would wait for a request to see it. The list of models is asked, which every such server has;
//! any answer but 5xx is good, since whether a path is there says nothing. Two failures in a row
//! pass it over, until a check succeeds; what fails requests is the breaker's, and no check heals
//! it. The check has no say over who is asked when nobody is well. Never for endpoints that
//! requests name. Each check resolves and connects anew. A kept connection is used for five minutes
//! at most, so that servers behind a name may change, and connections are spread over a name's
//! addresses; requests are balanced between endpoints, not between the addresses of one.
//!
//! **2026-11-26, what vLLM tells, and who knows a prompt.** `load = "vllm"` reads two gauges and
//! the cache's, twice a second: what is there besides our own requests is added to them, one that
//! waits twice, and all that runs up to twice when the cache is nearly full. Older than 1.5 s it is
//! not used. `affinity = true` hashes the body's beginning at twelve lengths from 1 to 64 KiB into
//! a table of 128 KiB per model, newest wins: no tree, no lock, nothing to evict. It counts if half
//! of what was hashed is known, so that a system prompt that all share draws nobody, and while that
//! replica has at most 1.5 times the load of the cheaper of two and four more. Off by default:
//! which prompts repeat, the operator knows. The system's hash (`SipHash`) with a secret seed: a
//! body of 64 KiB takes some 40 µs, and no client can make bodies that collide.
//!
//! **2026-11-26, rates that gateways share.** One Lua script in Redis does what the bucket here
//! does, in one step and one round trip, by Redis's clock. A window of `INCR` and `EXPIRE` would
//! let twice the rate through at its border and could not say when to come back. Charges go with
//! the caller's next request or within a second, and never twice: what Redis misses while it is
//! away the buckets here have counted. A check takes at most 50 ms; then Redis is held to be away,
//! nobody asks it, and each gateway counts for itself by its own buckets, which went on beside the
//! shared ones. It is connected to once a second, beside the requests. The `redis` crate speaks
//! RESP and TLS (the system's authorities, `SSL_CERT_FILE`); its connection manager was not taken,
//! since it would make requests wait.
//!
//! **2026-11-26, a replica that fails.** It is passed over, never refused: a model's only endpoint
//! is asked whatever it did. Five failures in a row or half of ten and more requests within ten
//! seconds; then one request at a time sees, and one that is back gets a tenth of its share,
//! growing within ten seconds, in which a single failure is enough. Held against it is what another
//! replica may do better (`error/kind.rs`), never a client's error. A 429 or 503 with `Retry-After`
//! is obeyed for up to a minute and is no failure. When more than half of those that are there
//! fail, all are asked again, by lot and not by cost: whoever fails fast has nothing under way and
//! would get everything. Those that cannot be reached do not count there: asking them is no relief.
//! There is no switch: with one endpoint nothing comes of it, and `error_rate = 1.0` with many
//! `failures` is as good as off.
//!
//! **2026-11-26, another replica until the first content.** An answer is held back until its first
//! content (no role, no ping, no `message_start`), at most 64 KiB and 5 s; a whole answer until its
//! end, since half of one is of no use. What fails before goes to a replica that was not tried:
//! connect, 408, 409, 424, 425, 429, 5xx, an expired `first_byte` or `idle`, a broken connection,
//! an error inside a 200. Each attempt is made anew. What is wrong with the request stays where it
//! is; so do 401 to 405, 407, 501 and 505, since our key and our name for the model are the same at
//! every replica. The last failure is told, with the smallest `Retry-After` that any replica gave.
//! A silent replica gets at most half of the total while there is another. **The only replica is
//! not asked twice**, but for a kept connection that died: GitLab's circuit breaker counts
//! failures, OpenAI's and Anthropic's clients have retries of their own, and a server that says 429
//! does not want more.
//!
//! **2026-11-26, fallback models.** What fails before the first content at every replica, and what
//! is true of all of them (401 to 405, 407, no credentials, no place left under `max_parallel`),
//! goes to the next model of `fallback`, inside the first one's total; a model that stays silent
//! gets at most half of what is left. Each handler asks from the beginning: another dialect,
//! another family, another prompt. It costs no retry budget: it is no second request to servers
//! that are in trouble, and when a model is down all of its requests must go on. The last failure
//! is told, but not a fallback's own refusal of the request, which is for the first model to judge.
//! Never: 400, 413, 422 and content filters, vectors (another model's do not fit those that are
//! stored: `embeddings_code.fallback` is a fault), Test connection, models that a client names,
//! GitLab's cloud, a model that the caller's key is not for.
//!
//! **2026-11-26, the retry budget.** A bucket per model, shared by workers: a request deposits
//! `resilience.retry_budget`, a further attempt takes one; ten are there at rest, and savings fade
//! within half a minute. A replica that could not be connected to costs nothing: it was sent
//! nothing, each is tried once, and a dead one under load must not lose requests. A clock-free
//! bucket was tried on paper: with a small ceiling it loses what waits at a replica that dies, with
//! a large one it doubles the load of a slow overloaded model for minutes.
//!
//! **2026-11-26, rates.** A token bucket of our own: it holds a minute's worth, fills evenly, and
//! may go below zero, since what an answer costs is known when it has ended. The `governor` crate
//! knows no debt, and to charge an estimate beforehand would refuse what costs little. A caller is
//! a static key by its name, a GitLab by its instance id with all its users (the tokens of their
//! IDEs too), else an address. A key's own rates stand over those of `[limits]`. A request counts
//! once it is admitted, whatever becomes of it; lists, tokens and documentation cost no model and
//! do not count. 10,000 callers are remembered; beyond that full buckets go first, which forgets
//! nothing. GitLab has no retry for 429: an instance's rate is a fuse, not a schedule.
//!
//! **2026-11-26, places at a model.** `max_parallel` counts requests until their answers' bodies
//! end, over all workers, in one locked queue per model: a semaphore knows no classes. Classes are
//! strict (completion, chat, jobs), since a wait is short: `max_wait` ends it, and what starves is
//! told so with 503 and `Retry-After`. Code generation waits as chat does: its answers are long,
//! and a completion that is late is worthless. A full queue gives up the newest of the lowest
//! class, which has waited least. A model that names no `max_parallel` has no limit but
//! `limits.in_flight`; its requests are counted all the same, so that a reload that sets one holds
//! at once. Models that requests bring have none. A request keeps its place from one attempt to the
//! next: giving it back would let those that wait in between. Waiting is its own figure
//! (`queue_ms`, `weir_queue_seconds`) and no part of Weir's overhead.
//!
//! **2026-11-26, which replica.** Of two drawn at random, the one whose wait for a first token
//! (peak EWMA, fading in 10 s) times its requests under way is less; by requests alone while one of
//! the waits is unknown. In a simulation of eight servers of eight places (`upstream::balance`,
//! 99th percentile of the first token): with one replica ten times as slow 1.4 s, by requests alone
//! 9.6 s, in turn 485 s; with one request in ten ten times as long 3.4 s, 3.0 s and 10 s. The
//! little that the peak costs where all are alike is the price of the first line. Who has had
//! nothing to do for ten seconds is asked by the next that draws it, whatever it cost before, and
//! what that one sees counts alone: at a request a second a single first token of 20 s kept
//! requests away for 41 s, now for 10 s, and the figures above stay as they are. Finagle and
//! linkerd only fade; to fade faster costs the second line, since slow replicas under load are then
//! asked more often. The price: one that stays slow gets a request in ten seconds.
//!
//! **2026-11-26, TLS of our own.** A certificate is a part of the configuration: the same faults,
//! the same reload, the same metric. Its files are watched with the file, and neither other files
//! nor TLS on or off need a restart, since a connection keeps what it was accepted with. HTTP/2 and
//! HTTP/1.1 are offered (ALPN): GitLab's Rails speaks HTTP/1.1, Workhorse what it is offered.
//! Handshakes are bounded in time (`limits.header_timeout`) and not in number: places that
//! strangers can hold would shut out everybody else. Sessions resume by tickets, which cost us no
//! memory; with `client_ca` never, so that a client's certificate counts each time. A goodbye is an
//! encrypted record: what arrives while an answer is made is decrypted, one record at most, and
//! stays to be read. An open TLS stream takes 17.1 KiB, a plain one in the same build 10.0 KiB
//! (1,000 streams, 2026-11-25). The two dates are read by sixty lines of ours: `x509-parser` is
//! fifteen crates, and all that hangs on a date here is a warning.
//!
//! **2026-11-26, a proxy is asked for a tunnel, always.** CONNECT for plain HTTP, too: what goes
//! through is what would go without, so there is no second form of a request, nothing is buffered
//! on the way, and the proxy's credentials are in one place. Its price is that the proxy must allow
//! CONNECT to the model server's port; the log line of its refusal says so. Proxies that are spoken
//! to in TLS or SOCKS are refused as faults. A server that a request names is resolved and checked
//! here and asked for by its address: a name that only the proxy can resolve cannot be checked. A
//! name in the operator's own file is the proxy's to resolve. This machine and link-local addresses
//! never go there: credentials of the cloud are given out at such.
//!
//! **2026-11-26, prompts in the log.** Bytes as they came and went, at the edge
//! (`telemetry/words.rs`), so that no surface can forget to be asked. A stream's pieces are joined
//! before keys are looked for. The official container's `AIGW_LOGGING__ENABLE_REQUEST_LOGGING` logs
//! whatever GitLab says; here both must allow it.
//!
//! **2026-11-26, the depth of JSON is no key.** It is serde_json's 128 where a value is built; what
//! is only passed on is skipped without recursion, however deep. A lower bound would cost every
//! forwarded body a pass of its own, and protect model servers from what they bound themselves.
//!
//! **2026-11-26, files that others may read are no fault.** Kubernetes mounts secrets readable for
//! all in the pod: a warning that everybody gets is read by nobody.
//!
//! **2026-11-26, TLS towards servers is a part of the configuration.** Authorities and client
//! certificates are read when the file is checked, watched with it, and put in force by a reload:
//! what was read is one value (`upstream::Outward`), and a kept connection belongs to the one that
//! it was made under. So another certificate costs all models a handshake, and no code has to ask
//! which of them it concerns. The certificate of `[tls]` is shown to every model server that asks,
//! those that requests name too, as the official gateway does: it proves who we are and gives away
//! no key. Issuers, token services and GitLab's cloud never see it. `AIGW_MTLS__VERIFY=false` and a
//! key with a passphrase are refused: the one turns off what the other protects, and the passphrase
//! would stand beside its key. The system's own authorities are read once for each such value.
//!
//! **2026-11-26, upgrades by handing the sockets over.** Two processes with `SO_REUSEPORT` would do
//! for the public port, but whoever waits in a socket that closes is reset, and moving them
//! (`tcp_migrate_req`) is a sysctl of root's. So the new process gets the sockets themselves, the
//! admin port's too; nothing closes. They meet under an abstract name made of the admin address:
//! Weir writes no file, and the name is seen as far as the port is. It has no owner, so both sides
//! look at the peer's user. A signal that makes the old process start the new one (nginx) was
//! rejected: a service manager and a container know only what they started themselves.
//!
//! **2026-11-25, an index of our own for the documentation.** One file, an inverted index with
//! BM25, held in memory: 21 MiB for 31,200 sections, read in 50 ms, searched in 0.2 to 0.7 ms, so a
//! search stays on its worker. tantivy is 127 more crates and a folder of files; the `bm25` crate
//! has no file and would index 20 MiB with every reload. Memory-mapping needs `unsafe`.
//!
//! **2026-11-25, embeddings.** `custom_openai/` and no prefix work (the official gateway: 400).
//! `dimensions` go to the model, which knows whether it has them; where GitLab allows to drop them
//! a refusal is asked again without. A refused key is 401 here, as the contract says: a background
//! job reads it, no user.
//!
//! **2026-11-25, any page may ask.** CORS is the official gateway's, on every path. It gives a page
//! no right of its own: nothing goes by cookies. A path that is none is 401 to strangers;
//! `/v1/models/definitions` is open, as there, and names models but no address.
//!
//! **2026-11-25, users' tokens.** Signed with the operator's RSA key, else with an Ed25519 key made
//! at start-up: ring makes no RSA keys, the `rsa` crate has a timing advisory, and GitLab and IDEs
//! only carry the token. The official gateway answers 500 without a key. A key's `kid` is its hash,
//! not the official pair of fixed names: with those two replicas in the midst of a rotation would
//! take one for the other. The token is bound to the model that completes code when it is issued;
//! where there is none it is refused, since it would open nothing, and the IDE goes by way of
//! GitLab, whose requests name a model. Only `complete_code` is granted: the other scope of the
//! official gateway's is for a proxy at GitLab's, which knows no token of ours. A request with such
//! a token that names a model's address is 403: addresses are the administrators' to name, and IDEs
//! name none.
//!
//! **2026-11-25, Anthropic's surface.** A wrong request is 400 there, since Anthropic's API has no
//! 422 and its clients name their classes by it. A budget of thinking becomes OpenAI's
//! `reasoning_effort` (below 4096 tokens `low`, below 16384 `medium`, else `high`): the only words
//! that API has for it; refusing would shut out Claude Code, which asks for thinking by default.
//! Pictures among a tool's results follow as the user's own, which every server has words for.
//! Betas pass by an allow-list of names; the rest stays behind with a note in the access log, since
//! a client sends its whole list with every request.
//!
//! **2026-11-25, the proxy's models.** `/v1/proxy/*` names models of GitLab's choice that nobody
//! here runs: the unit primitive decides, then `features.default` (`description_composer` is no
//! feature of GitLab's screens), unless the file has a model of that very name. The official
//! gateway answers 400 without `X-Gitlab-Unit-Primitive`; here it goes to the default. Its scope is
//! not checked on its own: whoever may call the proxy may call the same models by OpenAI's path.
//! Google's embeddings (`vertex-ai`) and OpenAI's `responses` are 404.
//!
//! **2026-11-25, wishes.** `seed`, `json_object` and a speaker's `name` were refused where a
//! provider has no word for them. OpenAI promises nothing for a seed, so leaving it out breaks no
//! promise; `json_object` becomes an instruction, as OpenAI wants one in the prompt anyway; a name
//! goes in front of the words. What would change the answer's shape (`n`, `logprobs`, forbidden
//! parallel calls) is still refused.
//!
//! **2026-11-25, fill-in-the-middle goes to `/completions`.** The official gateway puts the marks
//! into a user message, around which the server's chat template puts marks of its own: no model was
//! trained with that, and instruct models then talk about the marks. So a family with marks is
//! asked with a raw text where the server takes one, without the beginning-of-text mark, which vLLM
//! and llama.cpp add. One key, `completion_endpoint = "chat"`, brings the old way back for servers
//! whose template passes messages unchanged. A server without `/completions` (404, 405, 501) is
//! asked once more in words; not remembered, since the operator's key is the remedy.
//!
//! **2026-11-25, Mistral and Mixtral complete in words.** Their instruct models have no marks;
//! Codestral's, which the official gateway sends them, are text to them. All completions are
//! greedy: of a suggestion that nobody asked for, the likeliest is wanted.
//!
//! **2026-11-25, bytes stand for tokens.** A tokenizer for each family would have to be shipped and
//! kept right; the official gateway has one that fits none of them. 2.5 bytes a token errs on the
//! side of a little less code. A completion sees at most 32768 tokens whatever the window: more
//! makes each keystroke slower. What the suffix leaves is the prefix's, and the other way round;
//! context never cuts code.
//!
//! **2026-11-25, families are data, not an enum.** Nothing matched over the names but tables;
//! operators bring models that GitLab has no name for. Unknown names in a request stay `general`.
//!
//! **2026-11-25, a failed model is 421 on code suggestions, a busy one 429.** GitLab's probe reads
//! 421 with `"NNN: Phrase"`; editors wait for what a 429 says. After the head v4 has an `error`
//! event and no `stream_end`; raw text is cut.
//!
//! **2026-11-25, fences and wrappers go from completions too.** Only where a model was asked in
//! words: between marks it writes code from the first byte on. One line of talk before a fence goes
//! with it. In a Markdown file fences stay: they may be what was asked for.
//!
//! **2026-11-25, Duo Chat's head may go out first.** GitLab reads every failure of its chat from
//! events in a 200, and takes 60 s of silence for the end, so a head that is held gains nothing
//! there. The handler promises the answer's type (`relay/pulse.rs`); after `chat.heartbeat` without
//! a byte the server sends the head and goes on making the answer inside the body, with a blank
//! line at every silence. Nothing below the server knows. Rejected: a relay whose streams open
//! their upstream themselves, since whatever else a handler waits for would have needed the same.
//!
//! **2026-11-25, no prefill for ReAct.** The official gateway ends the conversation with `Thought:`
//! in the model's turn. vLLM wants a flag for that, Mistral's templates and new Claudes refuse it.
//! A step is two turns instead: what the model wrote, and `Observation: …` from the user.
//!
//! **2026-11-25, functions first, text when they are refused.** With `chat.tools = "auto"` a model
//! of a family that calls functions is offered them; a server that says it has none is asked again,
//! once, as text. Words before a call are held up to 240 bytes: GitLab ignores a call once it has a
//! piece of an answer. A model that writes ReAct although it was given functions is read as one
//! that was not.
//!
//! **2026-11-25, prompts are one text for all versions.** GitLab asks for `1.2.0`, `^2.0.0` or
//! `1.1.0-dev` of a prompt, which in the official gateway are different words for the same inputs
//! and answers. Here a file lists the versions that it answers to. A family's file says only what
//! differs from `base`, and where its versions do not fit `base` answers; the official gateway
//! refuses (S11).
//!
//! **2026-11-25, no prefill.** The official reader prompts end in the beginning of the answer.
//! Plain vLLM starts a new turn behind it, newer Claude models refuse it, and GitLab reads a whole
//! answer as well (gitlab-client.md §8.2). So the answer's form is shown by an example. Nor is
//! there a block of policy with a random mark in front of each prompt: what comes first is the same
//! in every request, so that model servers need not read it again.
//!
//! **2026-11-25, the errors of prompts are those of the contract's §8.4.** 404 for an unknown
//! prompt, 422 for a version that is no constraint, `'diff'` for a missing input: clear, and GitLab
//! treats every 4xx alike. The official gateway's running code answers the first two with 400, one
//! of them with a path of its disk. A stream of raw text that is for people (`chat/…`) gets the
//! error as a sentence, since GitLab shows them the body; a v2 stream that fails after its head
//! ends with a line `{"detail": …}`.
//!
//! **2026-11-25, GitLab's cloud is passed to, not spoken.** A feature set to `"gitlab"` goes on
//! byte for byte, with an allow-list of headers and none of ours, and every answer comes back with
//! its status: a 401 or 403 there is about the caller. After the head a failure cuts the
//! connection: an event of ours inside bytes that are not ours, perhaps compressed, would be a
//! guess. Three requests are refused instead. A static key's holder has no token that the cloud
//! knows. A request that brings a self-hosted model has that model's address and key in its body:
//! to send it unchanged would give them away, and the cloud refuses them anyway. OpenAI's surface
//! has no call that the cloud takes. Paths that Weir does not know (`/v1/…` to `/v4/…`: Amazon Q,
//! what GitLab adds next) go to the cloud when `features.default` is `"gitlab"`, and are 404
//! otherwise.
//!
//! **2026-11-25, tokens that nobody reported are estimated.** A stream that breaks off lacks its
//! last event, which holds the counts. Four bytes are a token, and a piece is one at least
//! (`generation/estimate.rs`); the log says `usage_estimated`, the metric counts them with the
//! others. Passthrough counts bytes only: the first event shows how much of one is envelope. vLLM's
//! running counts (`continuous_usage_stats`) are read when the client asks for them and never asked
//! for by us: each chunk would grow by its counts and need a parse, the client would read what it
//! did not ask for, and other servers refuse the unknown option. A request of whose answer nothing
//! arrived counts nothing.
//!
//! **2026-11-25, credentials that expire.** One loop, `fresh.rs`, keeps GitLab's keys, AWS's
//! credentials and Entra ID's tokens. It refreshes at 80 % of what is left, keeps the old ones
//! until they expire, and no request fetches: one that finds none waits 2 s, then gets 503
//! `no_credentials`. A refused key older than a minute is fetched again: a role's session may have
//! been revoked. AWS's chain is `aws-config`, given our own connections (no second HTTP stack, no
//! second TLS); its STS client comes with it, its `sso` does not, since servers have no browser. It
//! reads the process's environment and AWS's files itself and cannot be given another one. Nobody
//! needs to ask for the chain: a Bedrock model without keys uses it, and it is not asked before a
//! model of the file or a request needs it, so that an installation without AWS knocks at no
//! metadata service. A build without it was rejected: one program to test. Entra ID's three calls
//! are ours: `azure_identity` is a beta with a stack of its own.
//!
//! **2026-11-25, which Entra ID scope.** A dated `api_version` is Azure's older interface and gets
//! `cognitiveservices.azure.com`; the v1 paths and Foundry's hosts get `ai.azure.com`. Microsoft's
//! pages disagree about v1, so `entra.scope` says otherwise. A managed identity that nobody names
//! is taken only where `IDENTITY_ENDPOINT` says there is one: guessing would send every mistake to
//! a metadata service.
//!
//! **2026-11-25, `bedrock_mantle/` is no identifier.** From a request it would send the operator's
//! credentials to an address that the request names, and how that endpoint is signed for is not
//! written down. `bedrock_openai = true` with its address and a Bedrock API key reaches it.
//!
//! **2026-11-25, a guardrail's version may be left out.** AWS's service model of Converse requires
//! neither of the two. The OpenAI-compatible endpoint takes the guardrail in headers and wants the
//! version, so `weir check` does.
//!
//! **2026-11-24, GitLab's tokens.** A key verifies only tokens of the issuer that published it; the
//! official gateway merges all key sets. Keys are fetched by one task beside the workers, never by
//! a request, which waits at most 2 s, and only 64 of them at a time: strangers can name keys that
//! nobody has. A gateway that never got a key answers 503, not 401, since the token may be fine.
//! `iss` is held against the name in the discovery document, which may differ from `gitlab.url`
//! behind a proxy. No verified token is cached: GitLab signs a fresh one for every request.
//! OpenAI's calls are open to a token with any scope of Duo.
//!
//! **2026-11-24, HTTP/1.1 to model servers is ours.** The design said hyper on both sides. hyper's
//! client costs a task, two channel hops an event and 26 KiB a connection (a 32-slot queue of
//! requests, two 8 KiB buffers): an open stream took 35 KiB. `wire/http1.rs` is the codec, pure and
//! fuzzed; `upstream/exchange.rs` polls the socket from the request that waits for it. CPU per
//! request fell by a sixth, an open stream to 16 KiB. Only servers that we chose or checked are
//! spoken to with it.
//!
//! **2026-11-24, streams leave hyper.** Towards clients hyper stays: it reads requests, where
//! hostile bytes come from, and writes heads and short answers. But it keeps two 8 KiB buffers per
//! connection while an answer lasts. Once a stream's head and first chunk are out,
//! `server/handover.rs` takes the socket, writes the chunks itself, and gives it back for the next
//! request: 9.7 KiB a stream. An HTTP server of our own was rejected: the edge is no place to save.
//!
//! **2026-11-24, glibc's allocator.** mimalloc: 16 MiB idle and 20 KiB a stream. jemalloc: 18 KiB a
//! stream. glibc: 6.7 MiB and less than both. The image is therefore Debian's distroless and not
//! musl.
//!
//! **2026-11-24, a refused key of ours is 502.** A model server's 401 or 403 is about the
//! operator's key. Passed on, GitLab would tell the user to buy a subscription (M3006), and an
//! OpenAI client that its own key is wrong. Test connection still says 421 "401: Unauthorized".
//!
//! **2026-11-24, the head waits for the body's first byte.** Model servers send their head before
//! the first token. Passing it on at once would make every later failure an in-band one; waiting
//! costs nothing, since the client could do nothing with it. So expiry of `first_byte` is a 504
//! with A1000 on every surface that has not spoken yet.
//!
//! **2026-11-24, tidy limits and rustfmt.** `max_width = 120`: the tables in code (errors, metrics,
//! features) are read as tables. The limits of `tests/tidy.rs` are the design's.
//!
//! **2026-11-24, layers.** `telemetry` and `error` use `generation` and `wire`, not the other way
//! round: the record holds token counts, and nothing pure needs to report errors of the gateway.
//! The design had the two pairs swapped.
//!
//! **2026-11-24, features are a table in code.** Not `config/features.toml`: the set is closed,
//! other code names its members, and the compiler then finds a misspelling.
//!
//! **2026-11-24, the configuration is walked, not derived.** serde's derive stops at the first
//! fault; operators want all of them with line and column. One key table is the schema for reading,
//! for suggestions and for `config/reference.toml`.
//!
//! **2026-11-24, `disabled` is 403.** It is the administrator's decision about entitlement, and
//! GitLab's text for 403 sends the user to the administrator.
//!
//! **2026-11-24, Test connection ignores `[features]`.** The button asks about the model in the
//! form; answering for another one would be a lie. `request_models` still applies.
//!
//! **2026-11-24, metrics are shared atomics.** Handles are looked up once per request in a
//! per-worker map. Shards summed at scrape were rejected until contention shows in a profile.
//!
//! **2026-11-24, the access log is written by a thread.** Lines are formatted in the worker into a
//! buffer and handed over in batches through a bounded queue; what a stuck reader cannot take is
//! counted, not waited for.
