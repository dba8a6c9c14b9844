//! What each failure looks like, to a GitLab user and to the operator.
//!
//! | what happened | status, and where | GitLab shows | access log | first thing to look at |
//! |---|---|---|---|---|
//! | a limit expired | 504, `x-weir-error: A1000` | A1000 "couldn't respond in time" | `error_code=A1000`, `phase` | `phase`: `connect` is the network, `first_byte` a busy or cold model, `idle` a stuck one, `total` a long answer |
//! | model server down | 502; prompts and Test connection 421 | A9999, or Test connection's text | `upstream_connect` with the address in `note` | `weir probe` |
//! | model server said 4xx or 5xx | its 4xx and 503, else 502; prompts 421 `"NNN: Phrase"` | A9999, or Test connection's text | `upstream_status` with its words in `note` | the model's key, identifier, endpoint |
//! | a replica fails again and again, another is well | 200 from the other, once this one is passed over | nothing | one line in the operator's log; `weir_breaker_state`, `/status` | that replica's own log |
//! | a replica hangs, or is restarted | nothing from its second failed health check on; before that as for a limit or a server that is down | nothing | two lines in the operator's log when it begins, one when it ends; `/status` | that replica's own log |
//! | no AWS credentials or Entra ID token | 503, `Retry-After`; prompts and Test connection 421 | A9999, or Test connection's text | `no_credentials`, what AWS or Entra ID said in `note` | `weir probe`; the role, the profile, the application's secret |
//! | a content filter refused: Azure's, Anthropic's, a model's on Bedrock | 400 with the server's words; prompts 421 `"400: Bad Request"` | A9999 | `content_filter`, `outcome=refused`: neither retried nor held against the model | the prompt, or the filter's policy |
//! | the answer broke off | in-band `error` event on SSE, else the connection is cut | A1003 or A1004 | `upstream_broken` | the model server's log at that request id |
//! | any of these in Duo Chat | 200, an `error` event; `timeouts.chat_surface = "answer"`: A1000 as the answer | A1004; A1005 for a full context | as above | as above |
//! | Duo Chat's model said nothing | 200, an `error` event | A1004 | `no_answer` with what was missing in `note` | the model's chat template, its `max_tokens` |
//! | a prompt that is not there, no version that fits, no constraint, an input missing | 404, 400, 422, 422 with GitLab's sentence | "An unexpected error has occurred." | `not_found`, `no_prompt_version`, `prompt_version`, `missing_input` | GitLab's version, `weir prompts list` |
//! | feature disabled | 403 | M3006 | `feature_disabled` | `[features]` |
//! | no model for the feature | 422 naming the key to set | A9999 | `no_model` | `weir explain FEATURE` |
//! | GitLab's cloud said no (`"gitlab"` in `[features]`) | its status and body, unchanged | what GitLab makes of them: M3006 for 403 | `provider=gitlab`; 401 and 403 count as `refused`, the rest as `upstream_status` | the GitLab licence, then `weir probe gitlab` |
//! | a static key, or a self-hosted model in the request, where the feature is `"gitlab"` | 403, 422 | M3006, A9999 | `forbidden`, `endpoint_refused` | GitLab's own setting of the feature |
//! | endpoint that a request may not name | 422 | A9999 | `endpoint_refused` | `features.request_models` |
//! | Weir is full, or a model | 503, `Retry-After` | A9999 | `overloaded`, `queue_ms` | `limits.in_flight`, the model's `max_parallel` and `max_queue`, more replicas |
//! | Weir was stopped, and the answer took longer than `resilience.drain` | 503, `Retry-After`; after the head as for one that broke off | A9999, A1003 or A1004 | `draining`, `outcome=overload` | a longer `drain` |
//! | a caller asks for more than it may | 429, `Retry-After` | A9999 | `rate_limit_exceeded`, `outcome=refused` | `limits.requests_per_minute`, `limits.tokens_per_minute`, the key's own |
//! | a key that is not for this model | 403 | nothing: it is no GitLab | `forbidden`, the key's name in `note` | `models` in `auth.static_keys` |
//! | the client left | none | nothing | `outcome=cancelled`; the upstream was closed | nothing |
//! | our own fault | 500 | A9999 | `internal` | standard error, and tell us |
//!
//! Anthropic's clients read the same statuses but for 422, which is 400 there, and sort errors by
//! `error.type`: `timeout_error` for A1000, `overloaded_error` when Weir or the model server is
//! full or Weir is being stopped, `api_error` for a failed model server. After the head it is an
//! `error` event.
//!
//! The head of an answer is held back until its first content, so that all but what fails in the
//! middle of a stream is an honest status. Where the model has another replica or the feature a
//! `fallback`, most of these are asked there first: the table is what is left. The line of such a
//! request in the access log has `retries`, or `fallback_from` and `fallback_code`.
