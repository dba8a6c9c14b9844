//! What each provider is given of a request, and what it is refused.
//!
//! A body goes byte for byte, but for the model's name, where the model's server speaks the
//! client's dialect: `/v1/chat/completions` to `custom_openai/`, `azure/`, and `bedrock/` with
//! `bedrock_openai = true`; `/v1/messages` to `anthropic/`. Every field goes as it came, whatever
//! it is. The tables are for models that are translated to. *Refused* is a 422 whose `param` names
//! the field, for Anthropic's clients a 400 whose message begins with it; nothing is dropped in
//! silence.
//!
//! # From `/v1/chat/completions`
//!
//! | field | Bedrock (Converse) | Anthropic |
//! |---|---|---|
//! | `messages`: system, developer | `system`, in order, wherever they stood | the same |
//! | `messages`: blank text | left out: both refuse it | the same |
//! | `messages`: trailing assistant (prefill) | sent, without white space at its end | the same |
//! | `messages`: `name` of a user or system | in front of the text, `name: …`; an assistant's is left out | the same |
//! | images as `data:` | PNG, JPEG, GIF, WebP; others refused | the same |
//! | images as `https:` | refused: Weir fetches nothing | passed, Anthropic fetches |
//! | audio, files | refused | refused |
//! | `tools`, `strict` | `toolConfig`; names outside `[A-Za-z0-9_-]{1,64}` are mapped and restored | `tools`, the same |
//! | `tool_choice` auto, required, a function | translated | translated |
//! | `tool_choice` none | tools left out; refused when the history has calls | translated |
//! | `parallel_tool_calls` false | refused | `disable_parallel_tool_use` |
//! | tool results | one user turn, first in it; an empty one says `(no output)` | the same |
//! | `response_format` `json_schema` | `outputConfig.textFormat` | `output_config.format` |
//! | `response_format` `json_object` | an instruction in `system`: not enforced | the same |
//! | `reasoning_effort` | `outputConfig.effort` | `output_config.effort` |
//! | thinking sent back (`thinking_blocks`) | with its signature; without one left out | the same |
//! | `max_tokens`, `max_completion_tokens` | `maxTokens` | `max_tokens`; 4096 when absent, since it is required |
//! | `temperature` | translated; left out for Claude models that refuse it | the same |
//! | `top_p`, `stop` | translated | translated |
//! | `seed` | left out: a wish, to which OpenAI promises nothing either | the same |
//! | `n` > 1, `logprobs`, `logit_bias`, penalties ≠ 0 | refused | refused |
//! | `store`, `prediction`, `audio`, `web_search_options`, unknown fields | refused | refused |
//! | `user`, `metadata`, `safety_identifier`, `prompt_cache_key` | left out: they are not about the answer | the same |
//! | `cache_control` on a text, an image or a tool's result | `cachePoint` behind it | `cache_control` |
//! | `cache_control` on a tool | `cachePoint` behind the last tool | `cache_control` on the last tool |
//!
//! What comes back: text in `content`; thinking in `reasoning_content`, and with its signature in
//! `thinking_blocks`; calls with our own running index, their fragments as they came, `{}` for a
//! call without arguments; counts where `prompt_tokens` is everything read, cached or not: which of
//! a provider's numbers that is says [`Usage`](crate::generation::Usage). Encrypted (redacted)
//! thinking is left out.
//!
//! | stop reason | `finish_reason` |
//! |---|---|
//! | `end_turn`, `stop_sequence`, and any that is new | `stop` |
//! | `max_tokens`, `model_context_window_exceeded` | `length` |
//! | `tool_use` | `tool_calls` |
//! | `content_filtered`, `guardrail_intervened`, `refusal` | `content_filter` |
//!
//! # As whom
//!
//! | Bedrock, the first that is said | how it is sent |
//! |---|---|
//! | `api_key`, or `access_key_id` and `secret_access_key` of the model | as it is; signed |
//! | `AWS_BEARER_TOKEN_BEDROCK` | as it is |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | signed |
//! | AWS's credential chain: profile (a credential process, an assumed role), web identity (IRSA), a container's role (ECS, EKS pod identity), the instance's (IMDSv2) | signed, fetched again in time |
//!
//! | Azure, the first that is said | how it is sent |
//! |---|---|
//! | `api_key` of the model | `api-key` |
//! | `entra` of the model: an application by its secret, `identity = "workload"`, `identity = "managed"` | `Authorization: Bearer`, fetched again in time |
//! | `AZURE_CLIENT_SECRET` or `AZURE_FEDERATED_TOKEN_FILE`, with `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`; else `IDENTITY_ENDPOINT` | the same |
//!
//! `weir check` says which one each model has, `weir probe` why it does not work. Two that
//! contradict each other are refused. Credentials are fetched beside the requests; the old ones
//! serve until they expire.
//!
//! # From `/v1/messages`
//!
//! | field | Bedrock (Converse) | OpenAI, Azure |
//! |---|---|---|
//! | `system`, a system message | `system`, in order | a system message; blocks are set apart by an empty line |
//! | `text`, trailing assistant | as above | sent as it is: whether the model goes on from it is its server's choice |
//! | `image`: `base64` | PNG, JPEG, GIF, WebP; others refused | `image_url` with `data:` |
//! | `image`: `url` | refused: Weir fetches nothing | passed, the server fetches |
//! | `image`: `file`; `document`, `search_result`, server tools | refused | refused |
//! | `tool_use`, `tool_result` | translated; `is_error` is `status` | translated; an error begins with `Error: ` |
//! | pictures in a `tool_result` | follow it as the user's own | the same |
//! | `thinking` sent back | with its signature; without one left out | left out: the API has no field for it |
//! | `redacted_thinking` sent back | left out: encrypted for another server | the same |
//! | `tools`, `strict`, `tool_choice` | as above | `tools`, `tool_choice` |
//! | `disable_parallel_tool_use` | refused | `parallel_tool_calls` false |
//! | tools of a `type` of their own, `defer_loading`, `input_examples` | refused | refused |
//! | `thinking` `enabled` | Claude: passed; other models: refused | `reasoning_effort` by its budget |
//! | `thinking` `adaptive` | Claude: passed; other models: refused | left to the model, as it says |
//! | `output_config` `effort`, `format` | `outputConfig` | `reasoning_effort`, `response_format` |
//! | `max_tokens`, `temperature`, `top_p`, `stop_sequences` | translated | translated |
//! | `top_k`, `container`, `context_management`, `mcp_servers`, unknown fields | refused | refused |
//! | `cache_control` on a block, a tool or the request | `cachePoint` behind it, behind the last tool, at the end | left out: these servers keep by themselves |
//! | `metadata`, `service_tier` | left out: they are not about the answer | the same |
//! | `anthropic-beta` | left out: what a beta's field asks is judged by the field | the same |
//! | `count_tokens` | `count-tokens` | 404: their servers do not count beforehand |
//!
//! What comes back: blocks in the order they were said; thinking in `thinking` blocks, whose
//! signature is empty where no provider signed it; the input of a call, `{}` without arguments, and
//! `unparsed_arguments` with what a model wrote instead of a JSON object; `input_tokens` without
//! what came from the cache. In `message_start` the counts are 0 where a server counts at the end;
//! those of `message_delta` stand.
//!
//! | the model's server | `stop_reason` |
//! |---|---|
//! | was done, met a stop text, or any reason that is new | `end_turn`; `tool_use` when it called |
//! | ran into a limit | `max_tokens` |
//! | wants its calls answered | `tool_use` |
//! | filtered | `refusal` |
