//! What each failure looks like, to a GitLab user and to the operator.
//!
//! The head of a response is held until its first content, so that every failure but those in the
//! middle of a stream has a status of its own. If the model has another replica or the feature a
//! `fallback`, most of these failures are first retried there; the tables list what remains. The
//! access log line of such a request has `retries`, or `fallback_from` and `fallback_code`.
//!
//! # The model or its server failed
//!
//! | what happened | status, and where | GitLab shows | access log | first thing to check |
//! |---|---|---|---|---|
//! | a timeout expired | 504, `x-weir-error: A1000` | A1000 "couldn't respond in time" | `error_code=A1000`, `phase` | `phase`: `connect` is the network, `first_byte` a busy or cold model, `idle` a stuck one, `total` a long answer |
//! | model server down | 502; prompts and Test connection 421 | A9999, or Test connection's text | `upstream_connect` with the address in `note` | `weir probe` |
//! | the outbound proxy is down or refuses | as for a model server that is down | the same | `upstream_connect`; `note` names the variable or key, and the remedy | the proxy, `weir probe` |
//! | model server returned 4xx or 5xx | its 4xx and 503, otherwise 502; prompts 421 `"NNN: Phrase"` | A9999, or Test connection's text | `upstream_status` with the server's message in `note` | the model's key, identifier, endpoint |
//! | a replica fails repeatedly, another is healthy | 200 from the other, once the breaker has opened | nothing | one line in the operator's log; `weir_breaker_state`, `/status` | that replica's own log |
//! | a replica hangs, or is restarted | nothing from its second failed health check on; before that as for a timeout or a server that is down | nothing | two lines in the operator's log when it begins, one when it ends; `/status` | that replica's own log |
//! | the response broke off | in-band `error` event on SSE, otherwise the connection is cut | A1003 or A1004 | `upstream_broken` | the model server's log at that request id |
//! | a content filter refused: Azure's, Anthropic's, a model's on Bedrock | 400 with the server's message; prompts 421 `"400: Bad Request"` | A9999 | `content_filter`, `outcome=refused`: not retried, and not counted against the model | the prompt, or the filter's policy |
//! | no AWS credentials or Entra ID token | 503, `Retry-After`; prompts and Test connection 421 | A9999, or Test connection's text | `no_credentials`, the error of AWS or Entra ID in `note` | `weir probe`; the role, the profile, the application's secret |
//! | any of these in Duo Chat | 200, an `error` event; `timeouts.chat_surface = "answer"`: A1000 as the answer | A1004; A1005 for a full context | as above | as above |
//! | Duo Chat's model returned no text | 200, an `error` event | A1004 | `no_answer` with what was missing in `note` | the model's chat template, its `max_tokens` |
//!
//! # Weir refused the request
//!
//! | what happened | status, and where | GitLab shows | access log | first thing to check |
//! |---|---|---|---|---|
//! | unknown prompt, no matching version, not a version constraint, a missing input | 404, 400, 422, 422 with GitLab's sentence | "An unexpected error has occurred." | `not_found`, `no_prompt_version`, `prompt_version`, `missing_input` | GitLab's version, `weir prompts list` |
//! | feature disabled | 403 | M3006 | `feature_disabled` | `[features]` |
//! | no model for the feature | 422 naming the key to set | A9999 | `no_model` | `weir explain FEATURE` |
//! | GitLab's cloud refused (`"gitlab"` in `[features]`) | its status and body, unchanged | whatever GitLab makes of them: M3006 for 403 | `provider=gitlab`; 401 and 403 count as `refused`, the rest as `upstream_status` | the GitLab licence, then `weir probe gitlab` |
//! | a static key, or a self-hosted model in the request, where the feature is `"gitlab"` | 403, 422 | M3006, A9999 | `forbidden`, `endpoint_refused` | GitLab's own setting of the feature |
//! | an endpoint that a request may not name | 422 | A9999 | `endpoint_refused` | `features.request_models` |
//! | a key without permission for this model | 403 | nothing: the caller is not GitLab | `forbidden`, the key's name in `note` | `models` in `auth.static_keys` |
//! | a caller exceeds its rate | 429, `Retry-After` | A9999 | `rate_limit_exceeded`, `outcome=refused` | `limits.requests_per_minute`, `limits.tokens_per_minute`, the key's own |
//! | Weir or a model is at its limit | 503, `Retry-After` | A9999 | `overloaded`, `queue_ms` | `limits.in_flight`, the model's `max_parallel` and `max_queue`, more replicas |
//! | Weir was stopped, and the response took longer than `resilience.drain` | 503, `Retry-After`; after the head as for a response that broke off | A9999, A1003 or A1004 | `draining`, `outcome=overload` | a longer `drain` |
//! | the client disconnected | none | nothing | `outcome=cancelled`; the upstream connection was closed | nothing |
//! | an internal error | 500 | A9999 | `internal` | standard error, and report it to us |
//!
//! # Anthropic's clients
//!
//! They receive the same statuses, except that 422 is 400, and distinguish errors by `error.type`:
//! `timeout_error` for A1000, `overloaded_error` when Weir or the model server is at its limit or
//! Weir is being stopped, `api_error` for a failed model server. After the head it is an `error`
//! event.
