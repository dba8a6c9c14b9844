//! Decisions on providers: what Bedrock, Azure, Anthropic and GitLab's cloud receive, and the
//! credentials they are called with. Newest first.
//!
//! # 2026-11-25: Parameters that a provider does not have
//!
//! **Decision.** `seed` is dropped, `json_object` becomes an instruction in the prompt, and the
//! `name` of a speaker is put in front of the text. What would change the shape of the answer is
//! still refused: `n`, `logprobs`, forbidden parallel calls.
//!
//! **Because.** OpenAI guarantees nothing for a seed, so dropping it breaks no promise. OpenAI
//! requires the instruction in the prompt anyway.
//!
//! **Rejected.** Refusing these three, which was the first rule.
//!
//! # 2026-11-25: GitLab's cloud is proxied byte for byte
//!
//! **Decision.** A feature set to `"gitlab"` is forwarded byte for byte, with an allow-list of
//! headers and none of our own, and every response keeps its status. After the head, a failure cuts
//! the connection. Three kinds of request are refused: those with a static key, those that bring a
//! self-hosted model, and those of OpenAI's surface. Paths that Weir does not implement (`/v1/…` to
//! `/v4/…`: Amazon Q, whatever GitLab adds next) go to the cloud when `features.default` is
//! `"gitlab"`, and are 404 otherwise.
//!
//! **Because.** A 401 or 403 of the cloud is about the caller. An event of ours within bytes that
//! are not ours, perhaps compressed, would be a guess. The holder of a static key has no token that
//! the cloud accepts. A request with a self-hosted model carries that model's address and key:
//! forwarding it would disclose them, and the cloud rejects it anyway. OpenAI's surface has no call
//! that the cloud accepts.
//!
//! # 2026-11-25: Credentials that expire
//!
//! **Decision.** One refresh loop maintains GitLab's keys, AWS's credentials and Entra ID's tokens.
//! It refreshes when 80 % of the remaining lifetime has passed, and keeps the old value until it
//! expires. No request fetches: one that finds none waits 2 s, then receives 503 `no_credentials`.
//! A key that was rejected and is older than a minute is fetched again. AWS's chain is `aws-config`
//! over our own connections, with its STS client and without `sso`. A Bedrock model without keys
//! uses the chain, which is not queried before a model of the file or a request needs it. Entra
//! ID's three calls are our own.
//!
//! **Because.** A role's session may have been revoked. With our own connections there is no second
//! HTTP stack and no second TLS. Servers have no browser for SSO. `aws-config` reads the process's
//! environment and AWS's files itself and cannot be given others. An installation without AWS
//! contacts no metadata service.
//!
//! **Rejected.** A build without AWS's chain: one program to test is better. `azure_identity`: a
//! beta with an HTTP stack of its own.
//!
//! # 2026-11-25: Which Entra ID scope
//!
//! **Decision.** A dated `api_version` is Azure's older interface and gets
//! `cognitiveservices.azure.com`; the v1 paths and Foundry's hosts get `ai.azure.com`.
//! `entra.scope` overrides both. A managed identity that is not configured is used only where
//! `IDENTITY_ENDPOINT` is set.
//!
//! **Because.** Microsoft's pages disagree about v1.
//!
//! **Rejected.** Guessing a managed identity: every misconfiguration would end up at a metadata
//! service.
//!
//! # 2026-11-25: `bedrock_mantle/` is no identifier
//!
//! **Decision.** The prefix is not accepted. `bedrock_openai = true` with the address of that
//! endpoint and a Bedrock API key reaches it.
//!
//! **Because.** In a request, it would send the operator's credentials to an address that the
//! request names, and how requests to that endpoint are signed is not documented.
//!
//! # 2026-11-25: A guardrail's version may be left out
//!
//! **Decision.** The version is optional for Converse. With `bedrock_openai = true`, `weir check`
//! requires it.
//!
//! **Because.** AWS's service model of Converse requires neither identifier nor version. The
//! OpenAI-compatible endpoint takes the guardrail in headers and requires the version.
