//! What each provider is given of a request, and what it is refused.
//!
//! Clients of `/v1/chat/completions` whose model speaks OpenAI's API (`custom_openai/`, `azure/`, and `bedrock/`
//! with `bedrock_openai = true`) are passed through byte for byte: every field goes as it came, whatever it is.
//! The table is for models that are translated to. *Refused* is a 422 whose `param` names the field; nothing is
//! dropped in silence.
//!
//! | field | Bedrock (Converse) | Anthropic |
//! |---|---|---|
//! | `messages`: system, developer | `system`, in order, wherever they stood | the same |
//! | `messages`: blank text | left out: both refuse it | the same |
//! | `messages`: trailing assistant (prefill) | sent, without white space at its end | the same |
//! | `messages`: `name` of a speaker | refused | refused |
//! | images as `data:` | PNG, JPEG, GIF, WebP; others refused | the same |
//! | images as `https:` | refused: Weir fetches nothing | passed, Anthropic fetches |
//! | audio, files | refused | refused |
//! | `tools`, `strict` | `toolConfig`; names outside `[A-Za-z0-9_-]{1,64}` are mapped and restored | `tools`, the same |
//! | `tool_choice` auto, required, a function | translated | translated |
//! | `tool_choice` none | tools left out; refused when the history has calls | translated |
//! | `parallel_tool_calls` false | refused | `disable_parallel_tool_use` |
//! | tool results | one user turn, first in it; an empty one says `(no output)` | the same |
//! | `response_format` `json_schema` | `outputConfig.textFormat` | `output_config.format` |
//! | `response_format` `json_object` | refused | refused |
//! | `reasoning_effort` | `outputConfig.effort` | `output_config.effort` |
//! | thinking sent back (`thinking_blocks`) | with its signature; without one left out | the same |
//! | `max_tokens`, `max_completion_tokens` | `maxTokens` | `max_tokens`; 4096 when absent, since it is required |
//! | `temperature` | translated; left out for Claude models that refuse it | the same |
//! | `top_p`, `stop` | translated | translated |
//! | `seed` | refused | refused |
//! | `n` > 1, `logprobs`, `logit_bias`, penalties ≠ 0 | refused | refused |
//! | `store`, `prediction`, `audio`, `web_search_options`, unknown fields | refused | refused |
//! | `user`, `metadata`, `safety_identifier`, `prompt_cache_key` | left out: they are not about the answer | the same |
//! | `cache_control` on a text or image | `cachePoint` behind it | `cache_control` |
//! | `cache_control` on a tool or a tool's result | refused | refused |
//!
//! What comes back: text in `content`; thinking in `reasoning_content`, and with its signature in
//! `thinking_blocks`; calls with our own running index, their fragments as they came, `{}` for a call without
//! arguments; counts where `prompt_tokens` is everything read, cached or not: which of a provider's numbers
//! that is says [`Usage`](crate::generation::Usage). Encrypted (redacted) thinking is left out.
//!
//! | stop reason | `finish_reason` |
//! |---|---|
//! | `end_turn`, `stop_sequence`, and any that is new | `stop` |
//! | `max_tokens`, `model_context_window_exceeded` | `length` |
//! | `tool_use` | `tool_calls` |
//! | `content_filtered`, `guardrail_intervened`, `refusal` | `content_filter` |
