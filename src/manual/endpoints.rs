//! Every endpoint of the public port: what it takes, which model serves it, and how its errors
//! look.
//!
//! Paths with doubled slashes or `%2F` are normalised first. `HEAD` and `OPTIONS` are accepted on
//! any path.
//!
//! # OpenAI's API
//!
//! | endpoint | behaviour |
//! |---|---|
//! | `POST /v1/chat/completions` | forwarded byte for byte where the model's server has OpenAI's API, otherwise translated ([`super::providers`]) |
//! | `POST /v1/completions`, `/v1/embeddings` | forwarded byte for byte, to models on such servers only |
//! | `GET /v1/models` | the models of the file |
//!
//! `model` is a name of the file or `feature/<name>`.
//!
//! # Anthropic's API
//!
//! | endpoint | behaviour |
//! |---|---|
//! | `POST /v1/messages` | forwarded byte for byte to `anthropic/` models, translated for all others: text, images, tools, thinking, prompt caching, whole and streamed |
//! | `POST /v1/messages/count_tokens` | the same, where the provider can count in advance |
//! | `GET /v1/models` | in Anthropic's format for clients that send `anthropic-version` |
//!
//! Keys are accepted in `x-api-key` or `Authorization`.
//!
//! # Duo Chat and prompts
//!
//! | endpoint | behaviour |
//! |---|---|
//! | `POST /v2/chat/agent` | Duo Chat: tools as function calls or as ReAct text, heartbeats, every failure as an event |
//! | `POST /v1/chat/{name}` | GitLab's older chat calls, among them the `curl` of its troubleshooting page |
//! | `POST /v1/prompts/{id}`, `/v2/prompts/{id}` | slash commands, merge requests, reviews, vulnerabilities; the prompts are our own (`config/prompts`) and replaceable (`[prompts] dir`) |
//! | `POST /v1/prompts/model_configuration/check`, `/v2/…` | Test connection |
//!
//! # Code suggestions
//!
//! | endpoint | behaviour |
//! |---|---|
//! | `POST /v2/code/completions`, `/v2/completions` | completion |
//! | `POST /v2/code/generations` | generation |
//! | `POST /v3/code/completions` | either, depending on the request; streamed as plain text |
//! | `POST /v4/code/suggestions` | the same, streamed as events |
//!
//! Responses are whole or streamed. Completion is fill-in-the-middle through `/completions` for
//! families that support it (`config/families.toml`, extensible with `[families]`), and an
//! instruction in chat for the others. Files are cut to the model's window. Fences, `<think>` and
//! `<new_code>` are stripped.
//!
//! # Other calls of GitLab
//!
//! | endpoint | behaviour |
//! |---|---|
//! | `POST /v1/code/user_access_token` | user tokens for IDEs |
//! | `POST /v1/embeddings/code_embeddings`, `/index`, `/search` | semantic code search |
//! | `POST /v1/search/gitlab-docs` | documentation search, from an index that `weir docs index` builds from GitLab's `doc` folder |
//! | `GET /v1/models/definitions` | model definitions |
//! | `/v1/proxy/anthropic/…`, `/v1/proxy/openai/…` | served by the model of the feature |
//! | `GET /monitoring/healthz`, `/monitoring/ready` | probes |
//! | `OPTIONS` | preflights of the Web IDE |
//! | other paths under `/v1` to `/v4` | GitLab's cloud when `features.default` is `"gitlab"`, otherwise 404 |
