//! What Bedrock, Azure OpenAI and vLLM demand of a gateway.
//!
//! From their documentation, their clients' published behaviour and real servers. *(unverified)*
//! marks common knowledge that was not looked up.
//!
//! # §d1 Amazon Bedrock
//!
//! ## §d1.1 Host and signature
//!
//! `bedrock-runtime.{region}.amazonaws.com`; SigV4 for the service **`bedrock`**, or a bearer. A
//! VPC endpoint is connected to under its own name while the signed host may be another: the
//! operator sets it.
//!
//! ## §d1.2 Paths
//!
//! `POST /model/{id}/converse`, `/converse-stream`, `/invoke`, `/invoke-with-response-stream`,
//! `/count-tokens`. `{id}` is encoded once, all but `A-Za-z0-9-_.~`: `:` is `%3A`, `/` is `%2F`, in
//! ARNs as well.
//!
//! ## §d1.3 The canonical path is encoded again
//!
//! `%3A` becomes `%253A` in what is signed, for every service but S3; on the wire it stays `%3A`. A
//! wire path with `:` and a canonical one with `%3A` verify too, but an ARN's slashes then fail.
//!
//! ## §d1.4 Which headers are signed
//!
//! `host`, `content-type`, `x-amz-*` and `x-amzn-*` only: anything else may change on the way. The
//! client's hop-by-hop headers, `authorization`, `x-forwarded-*` and `accept-encoding` go first.
//!
//! ## §d1.5 What a signature covers
//!
//! The whole body, so it is buffered. Each attempt is signed anew (date, token), with the region of
//! the **endpoint**, for cross-region profiles as well.
//!
//! ## §d1.6 Clocks
//!
//! After `SignatureDoesNotMatch` or `RequestExpired`: take the response's `Date`, keep the
//! difference, repeat once.
//!
//! ## §d1.7 The credential chain
//!
//! Environment, profile (SSO, process, assumed role), web identity (IRSA), container (ECS, EKS pod
//! identity), instance (IMDSv2). Off the path of requests: fetched at the start, refreshed before
//! expiry, the old ones valid until they expire, one fetch at a time, 5 s for an attempt.
//!
//! ## §d1.8 API keys
//!
//! `AWS_BEARER_TOKEN_BEDROCK` is sent as `Authorization: Bearer …`, without SigV4. AWS's own
//! programs prefer it where it is set.
//!
//! ## §d1.12 Frames
//!
//! `total_len u32be | headers_len u32be | prelude_crc32 | headers | payload | message_crc32`; a
//! header is `name_len u8, name, type u8 (7: string), len u16be, value`. Verify both checksums,
//! refuse `headers_len > total_len - 16`, set a cap: 16 MiB is more than any frame.
//!
//! ## §d1.13 Cuts
//!
//! A frame may arrive in pieces: nothing is consumed before `total_len` bytes are there.
//!
//! ## §d1.14 200 without a stream
//!
//! `content-type: application/vnd.amazon.eventstream` comes first: a 200 with JSON is an error
//! (`UnknownOperationException`) that should have had another status.
//!
//! ## §d1.15 `:message-type`
//!
//! `event`, `exception` or `error`. Exceptions of ConverseStream: internalServer, modelStreamError,
//! validation, throttling, serviceUnavailable; of InvokeModel also modelTimeout. `:exception-type`
//! decides; a status in the payload is **not** to be read. Before the first content another replica
//! may answer, after it the stream ends with an error.
//!
//! ## §d1.16 Usage
//!
//! In `metadata`, **after** `messageStop`: read on. `inputTokens`, `outputTokens`, `totalTokens`,
//! `cacheReadInputTokens`, `cacheWriteInputTokens`.
//!
//! ## §d1.17 Statuses
//!
//! | error | status | repeat |
//! |---|--:|---|
//! | `ThrottlingException`, `ModelNotReadyException` | 429 | yes |
//! | `ModelTimeoutException` | 408 | yes |
//! | `ModelErrorException`, `ModelStreamErrorException` | 424 | yes |
//! | internal, `ServiceUnavailableException` | 500, 503 | yes |
//! | `ServiceQuotaExceededException`, `ValidationException` | 400 | no |
//! | `AccessDeniedException` | 403 | no |
//! | `ResourceNotFoundException` | 404 | no |
//!
//! The name is in `x-amzn-errortype` *(unverified)*, up to a `:`, or in `__type`.
//!
//! ## §d1.18 Stop reasons
//!
//! `end_turn`, `stop_sequence`, `tool_use`, `max_tokens`, `model_context_window_exceeded`,
//! `content_filtered`, `guardrail_intervened`, `malformed_model_output`, `malformed_tool_use`. One
//! that is new must not fail a request. The mapping: [`providers`](crate::manual::providers).
//!
//! ## §d1.19 Tools
//!
//! - `toolConfig` is required whenever the history holds a `toolUse` or `toolResult`; without tools
//!   send no `tool_choice` either.
//! - Names are at most 64 of `[A-Za-z0-9_-]`: mapped on the way out, restored on the way back.
//! - Calls are numbered by a running index of our own, not by `contentBlockIndex`.
//! - Arguments arrive as fragments of text in `contentBlockDelta.toolUse.input`; none at all is
//!   `{}`.
//!
//! ## §d1.20 Messages
//!
//! System texts go to `system`; empty text blocks are refused; consecutive tool results become one
//! user turn; a thought keeps its `signature`; `anthropic_beta` needs a list of what is allowed.
//!
//! ## §d1.22 OpenAI-compatible Bedrock
//!
//! `https://bedrock-runtime.{region}.amazonaws.com/openai/v1/chat/completions`, in newer
//! documentation without `/openai`, and `https://bedrock-mantle.{region}.api.aws/v1` (chat,
//! responses); an API key or AWS credentials. Fewer models, and **nothing to translate**. Mantle's
//! name for signing is *(unverified)*.
//!
//! # §d2 Azure OpenAI
//!
//! ## §d2.1 Paths
//!
//! | `api_version` | path |
//! |---|---|
//! | none, `v1` | `/openai/v1/{chat/completions,embeddings,responses}`, the deployment as `model` in the body |
//! | `preview` | the same with `?api-version=preview` |
//! | dated | `/openai/deployments/{deployment}/chat/completions?api-version=…` |
//!
//! ## §d2.2 Hosts
//!
//! `{resource}.openai.azure.com`, `{resource}.services.ai.azure.com` (Foundry), sovereign clouds,
//! private endpoints: any host is possible.
//!
//! ## §d2.3 Credentials
//!
//! `api-key: <key>` or `Authorization: Bearer <token>`, never both, never the client's. Scope
//! `https://cognitiveservices.azure.com/.default`; for Foundry and v1
//! `https://ai.azure.com/.default`.
//!
//! | identity | request, as Microsoft documents it |
//! |---|---|
//! | client credentials | `POST https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token` |
//! | workload | the same with `client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer` and the content of `AZURE_FEDERATED_TOKEN_FILE`, read again each time; `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_AUTHORITY_HOST` |
//! | managed, virtual machine | `GET 169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=…` with `Metadata: true` |
//! | managed, App Service | `IDENTITY_ENDPOINT` with `X-IDENTITY-HEADER` |
//!
//! Refreshed in the background at 80 % of its life. Several identities at once are refused.
//!
//! ## §d2.4 Content filter
//!
//! | | |
//! |---|---|
//! | instead of an answer | 400 `{"error":{"code":"content_filter","param":"prompt","message":…,"status":400,"innererror":{"code":"ResponsibleAIPolicyViolation",…}}}` |
//! | in an answer | `finish_reason: "content_filter"` |
//!
//! The **client's** fault, so neither repeated nor sent to another model nor counted by the
//! breaker.
//!
//! ## §d2.5 Streams
//!
//! The first chunk has `choices: []` and `prompt_filter_results`, later ones annotations only:
//! `choices[0]` need not exist, and such a chunk is no first token. A 429 or 5xx may come inside
//! the 200.
//!
//! ## §d2.6 When to come back
//!
//! `retry-after-ms`, preferred, then `retry-after`; `x-ms-retry-after-ms` as well.
//! `x-ratelimit-{limit,remaining}-{requests,tokens}` *(unverified)*. `apim-request-id` identifies
//! the request.
//!
//! ## §d2.7 Patience
//!
//! Microsoft advises up to 60 s for streams of models that do not reason, **29 minutes** before the
//! first token of those that do: the limit is the model's.
//!
//! ## §d2.8 404
//!
//! `DeploymentNotFound` may be returned for 5 minutes after a deployment is made; a wrong version
//! is a 404 as well.
//!
//! # §d3 vLLM, and other OpenAI-compatible servers
//!
//! Seen on real servers: vLLM's 401 is `{"error":"Unauthorized"}`, a string; the `code` of its 404
//! a number; its last content chunk carries `finish_reason` and content together; its usage chunk
//! has `choices: []`; a forced `tool_choice` ends with `finish_reason: "stop"`. llama.cpp begins
//! with `"content": null`, and sends `Connection: close` on some responses.
//!
//! ## §d3.1 Paths
//!
//! `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`, `/health` (200,
//! empty), `/metrics`.
//!
//! ## §d3.2 Load gauges
//!
//! | gauge of `/metrics` | over `engine` |
//! |---|---|
//! | `vllm:num_requests_running`, `vllm:num_requests_waiting` | sum |
//! | `vllm:kv_cache_usage_perc`, 0 to 1 (before 0.9 `vllm:gpu_cache_usage_perc`) | maximum or mean |
//!
//! Labels `model_name`, `engine`. Scraped every 100 to 500 ms for each replica; what is older than
//! three intervals is stale, and our own count in flight stands in for it.
//!
//! ## §d3.3 Usage
//!
//! `stream_options.include_usage` is added where the client did not, and its chunk (`choices: []`)
//! is taken out again. `continuous_usage_stats` has running counts.
//!
//! ## §d3.4 Cancellation
//!
//! vLLM stops when the HTTP connection **closes**, within 250 ms on a real server: close it at
//! once, it does not go back to the pool.
//!
//! ## §d3.5 Idle connections
//!
//! uvicorn closes an idle connection after **5 s** (`VLLM_HTTP_TIMEOUT_KEEP_ALIVE`) *(unverified)*,
//! so ours is kept for less. A request that fails on a reused connection before a byte of the
//! response may be sent once more.
//!
//! ## §d3.6 Request ids
//!
//! `X-Request-Id` becomes part of the request's id, and is echoed with
//! `--enable-request-id-headers`: one for each attempt.
//!
//! ## §d3.7 Priority
//!
//! `priority`, an integer, lower first; only with `--scheduling-policy priority`, else any but 0 is
//! an error *(unverified)*: opt-in for each model.
//!
//! ## §d3.8 Errors
//!
//! `{"error":{…}}` as OpenAI's, older ones `{"object":"error",…}`; a full context is 400. Names of
//! models are case-sensitive.
