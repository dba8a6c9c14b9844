//! What each provider receives of a request, and what is refused.
//!
//! Where the model's server uses the client's dialect, the body is forwarded byte for byte except
//! for the model's name, with every field in it: `/v1/chat/completions` to `custom_openai/`,
//! `azure/`, and `bedrock/` with `bedrock_openai = true`; `/v1/messages` to `anthropic/`.
//!
//! The tables are for models whose requests are translated. *Refused* is a 422 whose `param` names
//! the field, or for Anthropic's clients a 400 whose message begins with it. Nothing is dropped
//! silently: fields that are left out are listed here.
//!
//! # Which servers
//!
//! | prefix of `identifier` | server | credentials |
//! |---|---|---|
//! | `custom_openai/`, `openai/`, `hosted_vllm/`, `litellm_proxy/`, none | vLLM, llama.cpp and anything OpenAI-compatible | `api_key` |
//! | `bedrock/` | Amazon Bedrock: Converse, or its OpenAI-compatible endpoint; guardrails | below |
//! | `azure/` | Azure OpenAI: dated and v1 paths | below |
//! | `anthropic/` | Anthropic | `api_key` |
//! | `"gitlab"` in `[features]` | GitLab's own cloud, byte for byte | the caller's token |
//!
//! # From `/v1/chat/completions`
//!
//! | field | Bedrock (Converse) | Anthropic |
//! |---|---|---|
//! | `messages`: system, developer | `system`, in order, wherever they were in the list | the same |
//! | `messages`: blank text | left out: both reject it | the same |
//! | `messages`: trailing assistant (prefill) | sent, without trailing white space | the same |
//! | `messages`: `name` of a user or system | in front of the text, `name: …`; an assistant's is left out | the same |
//! | images as `data:` | PNG, JPEG, GIF, WebP; others refused | the same |
//! | images as `https:` | refused: Weir fetches nothing | passed, Anthropic fetches them |
//! | audio, files | refused | refused |
//! | `tools`, `strict` | `toolConfig`; names outside `[A-Za-z0-9_-]{1,64}` are mapped and restored | `tools`, the same |
//! | `tool_choice` auto, required, a function | translated | translated |
//! | `tool_choice` none | tools left out; refused when the history has calls | translated |
//! | `parallel_tool_calls` false | refused | `disable_parallel_tool_use` |
//! | tool results | one user turn, results first; an empty one becomes `(no output)` | the same |
//! | `response_format` `json_schema` | `outputConfig.textFormat` | `output_config.format` |
//! | `response_format` `json_object` | an instruction in `system`: not enforced | the same |
//! | `reasoning_effort` | `outputConfig.effort` | `output_config.effort` |
//! | thinking sent back (`thinking_blocks`) | with its signature; without one left out | the same |
//! | `max_tokens`, `max_completion_tokens` | `maxTokens` | `max_tokens`; 4096 when absent, since it is required |
//! | `temperature` | translated; left out for Claude models that reject it | the same |
//! | `top_p`, `stop` | translated | translated |
//! | `seed` | left out: OpenAI guarantees nothing for it either | the same |
//! | `n` > 1, `logprobs`, `logit_bias`, penalties ≠ 0 | refused | refused |
//! | `store`, `prediction`, `audio`, `web_search_options`, unknown fields | refused | refused |
//! | `user`, `metadata`, `safety_identifier`, `prompt_cache_key` | left out: they do not affect the answer | the same |
//! | `cache_control` on a text, an image or a tool's result | `cachePoint` after it | `cache_control` |
//! | `cache_control` on a tool | `cachePoint` after the last tool | `cache_control` on the last tool |
//!
//! The response contains:
//!
//! - text in `content`;
//! - thinking in `reasoning_content`, and with its signature in `thinking_blocks`; encrypted
//!   (redacted) thinking is left out;
//! - tool calls with a running index of our own, their fragments as received, `{}` for a call
//!   without arguments;
//! - token counts in which `prompt_tokens` is everything read, cached or not
//!   ([`Usage`](crate::generation::Usage) documents which of a provider's numbers that is).
//!
//! | stop reason | `finish_reason` |
//! |---|---|
//! | `end_turn`, `stop_sequence`, and any unknown one | `stop` |
//! | `max_tokens`, `model_context_window_exceeded` | `length` |
//! | `tool_use` | `tool_calls` |
//! | `content_filtered`, `guardrail_intervened`, `refusal` | `content_filter` |
//!
//! # Credentials
//!
//! | Bedrock, the first that is set | how it is sent |
//! |---|---|
//! | `api_key`, or `access_key_id` and `secret_access_key` of the model | as a bearer token; signed |
//! | `AWS_BEARER_TOKEN_BEDROCK` | as a bearer token |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | signed |
//! | AWS's credential chain: profile (a credential process, an assumed role), web identity (IRSA), a container's role (ECS, EKS pod identity), the instance's (IMDSv2) | signed, refreshed before it expires |
//!
//! | Azure, the first that is set | how it is sent |
//! |---|---|
//! | `api_key` of the model | `api-key` |
//! | `entra` of the model: an application by its secret, `identity = "workload"`, `identity = "managed"` | `Authorization: Bearer`, refreshed before it expires |
//! | `AZURE_CLIENT_SECRET` or `AZURE_FEDERATED_TOKEN_FILE`, with `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`; otherwise `IDENTITY_ENDPOINT` | the same |
//!
//! `weir check` shows which credentials each model uses, `weir probe` why they do not work. Two
//! that contradict each other are refused. Credentials are fetched in the background; the old ones
//! stay in use until they expire.
//!
//! # From `/v1/messages`
//!
//! | field | Bedrock (Converse) | OpenAI, Azure |
//! |---|---|---|
//! | `system`, a system message | `system`, in order | a system message; blocks are separated by an empty line |
//! | `text`, trailing assistant | as above | sent as it is: whether the model continues it depends on its server |
//! | `image`: `base64` | PNG, JPEG, GIF, WebP; others refused | `image_url` with `data:` |
//! | `image`: `url` | refused: Weir fetches nothing | passed, the server fetches it |
//! | `image`: `file`; `document`, `search_result`, server tools | refused | refused |
//! | `tool_use`, `tool_result` | translated; `is_error` is `status` | translated; an error begins with `Error: ` |
//! | images in a `tool_result` | follow it as the user's own | the same |
//! | `thinking` sent back | with its signature; without one left out | left out: the API has no field for it |
//! | `redacted_thinking` sent back | left out: encrypted for another server | the same |
//! | `tools`, `strict`, `tool_choice` | as above | `tools`, `tool_choice` |
//! | `disable_parallel_tool_use` | refused | `parallel_tool_calls` false |
//! | tools of a `type` of their own, `defer_loading`, `input_examples` | refused | refused |
//! | `thinking` `enabled` | Claude: passed; other models: refused | `reasoning_effort` by its budget |
//! | `thinking` `adaptive` | Claude: passed; other models: refused | left to the model, which is what it means |
//! | `output_config` `effort`, `format` | `outputConfig` | `reasoning_effort`, `response_format` |
//! | `max_tokens`, `temperature`, `top_p`, `stop_sequences` | translated | translated |
//! | `top_k`, `container`, `context_management`, `mcp_servers`, unknown fields | refused | refused |
//! | `cache_control` on a block, a tool or the request | `cachePoint` after it, after the last tool, at the end | left out: these servers cache by themselves |
//! | `metadata`, `service_tier` | left out: they do not affect the answer | the same |
//! | `anthropic-beta` | left out: a field of a beta is treated as the rows above treat that field | the same |
//! | `count_tokens` | `count-tokens` | 404: their servers do not count in advance |
//!
//! The response contains:
//!
//! - blocks in the order in which the model produced them;
//! - thinking in `thinking` blocks, whose signature is empty when the provider did not sign it;
//! - the input of a tool call, `{}` without arguments, and `unparsed_arguments` with what a model
//!   wrote instead of a JSON object;
//! - `input_tokens` without what came from the cache. In `message_start` the counts are 0 where a
//!   server counts at the end; those of `message_delta` are final.
//!
//! | the model's server | `stop_reason` |
//! |---|---|
//! | finished, reached a stop text, or gave an unknown reason | `end_turn`; `tool_use` if it made a call |
//! | reached a limit | `max_tokens` |
//! | waits for the results of its calls | `tool_use` |
//! | filtered | `refusal` |
