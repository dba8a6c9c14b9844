//! What GitLab's official AI gateway returns, byte for byte where clients depend on it, and what
//! was seen to go wrong there.
//!
//! Most was measured in August 2026 against scripted model servers, with authentication off; limits
//! of fields, defaults and the checks of tokens are as they were described to us. *(unverified)*
//! marks what neither covers. Weir keeps to it where a client reads it and answers otherwise where
//! it is a fault: `tests/conformance/differences.toml` lists the latter.
//!
//! # §1 Paths
//!
//! ## §1.0 Ports, and what all requests have in common
//!
//! | | |
//! |---|---|
//! | listeners | API on 5000 (container 5052), HTTP/1.1 only; Prometheus on 8082 |
//! | bodies | JSON; unknown fields are ignored; no limit of size, only those of fields |
//! | authentication | **before routing**: an unknown path is 401 without credentials, else 404 `{"detail":"Not Found"}` |
//! | no token needed | `/monitoring/healthz`, `/monitoring/ready`, `/metrics`, `/v1/models/definitions` |
//! | a slash at the end | 307 to the path without it |
//! | `HEAD` on a `GET` path | 405 |
//! | CORS | any origin, `POST` only, any header, 600 s; a preflight is 200 `OK` as `text/plain`, without authentication |
//! | response headers | `X-Request-ID` (the request's, else 32 hex digits) and `X-Process-Time` (seconds), on all but an unhandled 500 |
//! | bad `model_metadata` | **ignored**: the request goes to GitLab's default cloud model (§2.3) |
//!
//! ## §1.1 Probes
//!
//! `GET /monitoring/healthz` is 200 `{}`, always. `GET /monitoring/ready` is 200 `{}` or 503; in a
//! self-hosted installation 500, since a probe needs a key that is not there. GitLab's cloud runs
//! the same gateway, so its `/monitoring/healthz` needs no token either *(inferred)*.
//!
//! ## §1.2 `POST /v1/prompts/{id}`, `POST /v2/prompts/{id}`
//!
//! `id` may contain slashes, also as `%2F`.
//!
//! | field | type | default |
//! |---|---|---|
//! | `inputs` | object | required; the gateway adds `current_date`, `August 22, 2026` |
//! | `prompt_version` | string or null: exact, or a constraint (§3.3) | `^1.0.0`, also for null and `""` |
//! | `stream` | boolean or null | `false` |
//! | `model_metadata` | object (§2.1) | absent |
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | whole | a JSON string, `"hello"` | `{"content":"hello","usage":{"<model>":{"input_tokens":7,"output_tokens":5}}}` |
//! | streamed | raw text | one `{"content":"…"}` a line, empty ones too; `usage` in the last line only |
//!
//! Both streams are called `text/event-stream; charset=utf-8` and **are not SSE**. The model in
//! `usage` is not always the one that answered: GitLab adds the numbers up and does not read the
//! name.
//!
//! ## §1.3 `POST /v2/code/completions`, `/v2/completions`, `/v2/code/generations`
//!
//! `prompt_version` is 1 (the default), 2 or 3. Lengths are counted in characters, not bytes.
//!
//! | field | type, limit | default |
//! |---|---|---|
//! | `project_path`, `project_id` | string of 255, integer | null |
//! | `current_file.file_name` | string of 255 | required |
//! | `current_file.language_identifier` | string of 255 | null |
//! | `current_file.content_above_cursor`, `.content_below_cursor` | strings of 100,000 | required |
//! | `model_provider` | `anthropic`, `vertex-ai`, `litellm`, `codestral`, `fireworks_ai`, `amazon_q`, `gitlab` | null |
//! | `model_endpoint`, `model_api_key`, `model_identifier` | string | null |
//! | `model_name` | string of 50, in the list of its provider | null |
//! | `telemetry` | 10 of `{model_engine, model_name, lang, requests, accepts, errors}`, strings of 50, integers | `[]` |
//! | `stream`, `choices_count` | boolean; integer, without effect for self-hosted models | `false`, 0 |
//! | `context` | 100 of `{type, name, content}`, of 1024, 1024, 500,000 | `[]` |
//! | `prompt_id`, `role_arn` | string | null |
//! | `prompt` | version 1: absent; 2: a string; 3: a list of `{role, content}` | not used for self-hosted completions |
//!
//! For `litellm` the families are `codegemma`, `codellama`, `codestral`, `deepseekcoder`, `llama3`,
//! `mistral`, `mixtral`, `claude_3`, `gpt`; `general`, `gemini` and `qwen` are 422, although GitLab
//! offers `general`.
//!
//! ```json
//! {"id":"id","model":{"engine":"litellm","name":"codegemma","lang":"python",
//!   "tokens_consumption_metadata":{"input_tokens":7,"output_tokens":5,
//!     "max_output_tokens_used":false,"context_tokens_sent":0,"context_tokens_used":0},
//!   "region":"us-central1"},
//!  "experiments":[],"object":"text_completion","created":1795470175,
//!  "choices":[{"text":"…","index":0,"finish_reason":"length"}],
//!  "metadata":{"enabled_feature_flags":[]}}
//! ```
//!
//! - `id` is the word `id`, `finish_reason` always `length`. An empty text makes `choices: []`.
//! - `model.lang` is lower-case, by extension, then by the editor's language: `python`, `js`, `ts`,
//!   `cpp`, `csharp`; `""` when unknown.
//! - A file without an extension and without the editor's language: **the model is not called**,
//!   200 with `choices: []` and `lang: ""`.
//! - A stream is raw text as `text/event-stream; charset=utf-8`, without an end mark.
//! - Generations with `prompt_id`, `model_name` and `model_provider` run that prompt
//!   (`engine: "agent"`); without, the text in front of the cursor as one message, with
//!   `max_tokens` 2048, `temperature` 0.2, `top_p` 0.95, stop `</new_code>`.
//! - Scopes: `complete_code`, else 403 `Unauthorized to access code completions`; `generate_code`,
//!   else 403 `Unauthorized to access code generations`, also for the gateway's own tokens.
//!
//! ## §1.4 `POST /v3/code/completions`, `POST /v4/code/suggestions`
//!
//! | field | type, limit |
//! |---|---|
//! | `prompt_components` | 1 to 100; the first has to be the editor's |
//! | `.type` | `code_editor_completion`, `code_editor_generation`, `code_context` |
//! | `.metadata` | `{source, version}`, of 255 |
//! | `.payload` of an editor | `file_name` of 255, `content_above_cursor` and `content_below_cursor` of 100,000, required; `language_identifier` of 255, `model_provider`, `model_name`, `stream`, `role_arn` |
//! | completion only | `choices_count`, `prompt` (not used) |
//! | generation only | `prompt` of 400,000, `prompt_id`, `prompt_enhancer` (object), `prompt_version` (string) |
//! | `.payload` of a context | `type` of 1024, `name` of 1024, `content` of 100,000; used only with `X-Gitlab-Language-Server-Version` 7.17.1 or later |
//! | `model_metadata` | §2.1 |
//!
//! ```json
//! {"choices":[{"text":"…","index":0,"finish_reason":"length"}],
//!  "metadata":{"model":{"engine":"agent","name":"Mistral 7B Code Generations","lang":"python"},
//!   "timestamp":1795470216,"enabled_feature_flags":[],"region":null},
//!  "model":{"engine":"agent","name":"Mistral 7B Code Generations","lang":"python"}}
//! ```
//!
//! `engine` is `model_metadata.provider` for completions and `agent` for generations; `name` is the
//! family or the prompt's display name. A v3 stream is raw text. A v4 stream is SSE with CRLF,
//! `X-Streaming-Format: sse`, `Cache-Control: no-store`, `X-Accel-Buffering: no`,
//! `Connection: keep-alive`, and a comment every 15 s:
//!
//! ```text
//! event: stream_start
//! data: {"metadata": {"model": {"engine": "agent", "name": "…"}, "timestamp": 1795470216, …}}
//!
//! event: content_chunk
//! data: {"choices": [{"delta": {"content": "print(1)\n"}, "index": 0}]}
//!
//! event: stream_end
//! data: null
//! ```
//!
//! When the model server fails after `stream_start` the connection is cut, without `stream_end`.
//! Scopes as in §1.3; both refuse the gateway's own tokens with 403
//! `Unauthorized to access code suggestions`.
//!
//! ## §1.6 `POST /v1/chat/{name}`
//!
//! `explain_code`, `write_tests`, `refactor_code`, `explain_vulnerability`, `summarize_comments`,
//! `troubleshoot_job`, `agent`; any other name is 422. The body has `stream` and exactly one of
//! `prompt_components`: `type`, `metadata` (`source`, `version`), and a `payload`:
//!
//! | field | type, limit |
//! |---|---|
//! | `content` | string of 400,000, or 1 to 100 messages |
//! | `provider` | `anthropic` or `litellm` |
//! | `model`, `model_endpoint`, `model_api_key`, `model_identifier` | strings |
//! | `params` | `stop_sequences` (1 to 10 of 225), `temperature` (0 to 1, 0.2), `max_tokens_to_sample` (1 to 8192, 8192) |
//!
//! The response is `{"response":"…","metadata":{"provider":…,"model":…,"timestamp":…}}`, a stream
//! raw text. **Every valid request is 500** since November 2025. GitLab does not call it; its
//! troubleshooting page had a `curl` for it until 19.x.
//!
//! ## §1.7 `POST /v1/embeddings/code_embeddings`, `/index`, `/search`
//!
//! All three do the same; scope `generate_embeddings_codebase`. The request is that of
//! `contract::gitlab_client §9.4`.
//!
//! | | |
//! |---|---|
//! | sent upstream | `POST {endpoint}/embeddings` `{"input":["a","b"],"model":"bge-m3","encoding_format":"float"}`, with a bearer key |
//! | response | `{"model":{"engine":"litellm_embedding","name":"embedding","identifier":"openai/bge-m3"},"predictions":[{"embedding":[…],"index":0}]}` |
//! | 422 | `Allowed providers are: gitlab\|litellm.`; ``Model `name` must be set when using `litellm` provider.``; ``Model `name` must be 'embedding' when …``; ``Model `endpoint` must be set when …`` |
//! | 400, 401, 429 of the model server | the same status, its words as `detail` |
//! | any other failure | 500 |
//! | `custom_openai/x` | 400: administrators write `openai/x` |
//!
//! ## §1.8 `POST /v1/search/gitlab-docs`
//!
//! `type` of 100 characters, `metadata.source` and `.version` of 100, `payload.query` of 400,000,
//! `payload.page_size` 1 to 20, 4 by default. The response is that of
//! `contract::gitlab_client §9.1`, `provider` `sqlite`. Results are ordered by BM25 and cut to
//! **8000 tokens** (estimated as 1.4 for a word). Without an index: 200 and no results. Scope
//! `documentation_search`, else 403 `Unauthorized to search documentations`.
//!
//! ## §1.9 `POST /v1/code/user_access_token`
//!
//! No body; `X-Gitlab-Realm`, `X-Gitlab-Global-User-Id` and `X-Gitlab-Instance-Id` go into the
//! token (§5.4). 200 `{"token":"<jwt>","expires_at":<unix>}`; 403
//! `Unauthorized to create user access token`; 500 `{"detail":"Failed to generate JWT"}` without a
//! signing key.
//!
//! ## §1.10 `GET /v1/models/definitions`
//!
//! To anybody. `models` of `name`, `identifier`, `provider`, `description`, `cost_indicator`,
//! `deprecation`; `unit_primitives` of `feature_setting`, `default_model`, `default_models`,
//! `models_for_tags`, `models_for_size_preference`, `selectable_models`, `beta_models`,
//! `deprecated_models`, `dev`, `unit_primitives`. GitLab reads it to offer GitLab-managed models;
//! an empty list is tolerated as long as the keys are there *(unverified)*.
//!
//! ## §1.11 `POST /v1/proxy/{anthropic,openai,vertex-ai}/{path}`
//!
//! Forwards to the vendor with GitLab's own key; `x-gitlab-unit-primitive` is required, else 400.
//!
//! | vendor | paths |
//! |---|---|
//! | `anthropic` | `/v1/messages`, `/v1/messages?beta=true`, `/v1/messages/count_tokens?beta=true` |
//! | `openai` | `chat/completions`, `embeddings`, `models`, `responses` |
//!
//! Errors: 404 `Not found` (with a small f), 400 `Unsupported model`, `Invalid JSON`,
//! `Failed to extract model name`, `API key not found`, 502 `Bad Gateway`.
//!
//! # §2 From `model_metadata` to the model server
//!
//! ## §2.1 Variants
//!
//! | `provider` | fields | |
//! |---|---|---|
//! | `openai` from GitLab, `litellm`, any other | `name` of 255 (a family), `endpoint` URL of 255, `api_key` of 2000, `identifier` of 1000 | a self-hosted model |
//! | `gitlab` | `identifier` or `feature_setting`; endpoint and key of the request are dropped | GitLab-managed |
//! | `amazon_q` | `name`, `role_arn` of 255 | Amazon Q |
//!
//! With `AIGW_CUSTOM_MODELS__ENABLED` off, as in GitLab's cloud, an endpoint or a key in a request
//! is refused.
//!
//! ## §2.2 Families
//!
//! | `name` | context, tokens | prompts looked for in | temperature | output, tokens | |
//! |---|--:|---|--:|--:|---|
//! | `mistral` | 128,000 | `mistral` | 0 | 4096 | |
//! | `mixtral` | 32,000 | `mixtral`, `mistral` | 0 | 4096 | `\_` becomes `_` in code |
//! | `codestral` | 128,000 | `codestral`, `mistral` | 0 | 4096 | |
//! | `llama3` | 128,000 | `llama3` | 0 | 4096 | |
//! | `codellama` | 16,000 | `codellama` | 0 | 4096 | |
//! | `codegemma` | 8,000 | `codegemma` | 0 | 4096 | |
//! | `deepseekcoder` | 16,000 | `deepseekcoder` | 0 | 4096 | |
//! | `gpt` | 128,000 | `gpt` | none sent | none sent | |
//! | `claude_3` | 200,000 | | 0 | 4096 | |
//! | `gemini` | 1,000,000 | `gemini` | 1 | 65,536 | |
//! | `qwen` | 262,144 | `qwen` | 0 | 8192 | `<think>` taken off; one system message |
//! | `general` | 200,000 | | 0 | 4096 | |
//! | `embedding` | 200,000 | `embedding` | | | |
//!
//! Behind them `base`, which comes last for all. A prompt's parameters override its family's.
//!
//! ## §2.3 Identifiers
//!
//! 1. Split at the first `/`: provider and model, which may itself contain `/`.
//! 2. Without `/` the provider is `custom_openai`.
//! 3. Empty or null: **no provider**, `421 {"detail":"400: Bad Request"}` on prompts, 500 on
//!    completions.
//! 4. Slashes at the endpoint's end are removed; for `bedrock` and `vertex_ai` the endpoint is
//!    dropped.
//! 5. Without a key `custom_openai` gets `dummy_key`.
//! 6. An unknown family, a field that is too long, an endpoint that is no URL: the metadata is
//!    ignored, the request goes to GitLab's cloud, and 39 s later it is
//!    `421 {"detail":"500: Internal Server Error"}`. On `/v2/code/completions` 422.
//!
//! | prefix | request upstream |
//! |---|---|
//! | `custom_openai/`, `openai/`, `azure_ai/`, `litellm_proxy/`, `mistral/` | `POST {endpoint}/chat/completions`, bearer |
//! | `hosted_vllm/` | the same, with `stream: false` written out |
//! | `azure/{deployment}` | `POST {base}/openai/deployments/{deployment}/chat/completions?api-version=…`, `api-key` |
//! | `bedrock/{model}` | `POST https://bedrock-runtime.{region}.amazonaws.com/model/{model}/converse` or `/converse-stream`, SigV4 |
//! | `bedrock_mantle/` | Bedrock's OpenAI-compatible endpoint, bearer *(documented)* |
//! | `anthropic/` | `POST {endpoint}/v1/messages`, `x-api-key`, `anthropic-version: 2023-06-01` |
//! | `vertex_ai/` | needs Google's credentials |
//! | unknown | `421 {"detail":"400: Bad Request"}` |
//!
//! ## §2.4 OpenAI-compatible servers
//!
//! Body: `messages`, `model`, `max_tokens`, `temperature`, `stop`, and for streams `stream: true`
//! with `stream_options: {"include_usage": true}`; nothing else. No correlation id.
//!
//! | | |
//! |---|---|
//! | `stop` | cut to its first 4 |
//! | models whose name begins with `gpt-5` | `max_completion_tokens` instead of `max_tokens` |
//! | Claude `opus-4-7`, `opus-4-8`, `sonnet-5`, `fable-5`, `mythos-5` | `temperature` left out, for any provider |
//! | a trailing assistant message (prefill) | families of Mistral's get `continue_final_message: true` and `add_generation_prompt: false` beside it; Claude models that refuse it get a user message that begins with `[Previous assistant context]: `; others get it unchanged, and a plain vLLM then begins a **new** turn |
//!
//! ## §2.5 Azure OpenAI
//!
//! An endpoint may be the resource's root, `/openai/deployments/{d}`, or a whole URL with
//! `?api-version=`: all come to the root. The URL's own version is ignored: `AZURE_API_VERSION`,
//! else **`2025-02-01-preview`**. The key goes as `api-key`.
//!
//! ## §2.6 Amazon Bedrock
//!
//! - Credentials are the gateway's: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
//!   `AWS_SESSION_TOKEN`, or `AWS_BEARER_TOKEN_BEDROCK`; region `AWS_REGION_NAME` or `AWS_REGION`;
//!   host `AWS_BEDROCK_RUNTIME_ENDPOINT`.
//! - GitLab's form demands an endpoint, so a dummy comes with Bedrock models: **not to be used**.
//!   Neither is the key of the request.
//! - `bedrock/{model}`, `bedrock/converse/{model}` (the prefix is removed),
//!   `bedrock/invoke/{model}`, `bedrock/{region}/{model}` (which signs for that region). An ARN of
//!   an inference profile was refused locally; GitLab documents `bedrock/converse/arn:…` in 19.x.
//! - Converse: `messages`, `system`, `inferenceConfig` (`temperature`, `maxTokens`,
//!   `stopSequences`), `additionalModelRequestFields: {}`; consecutive user messages become one.
//! - A guardrail goes as `guardrailConfig` (`guardrailIdentifier`, `guardrailVersion`, `trace`),
//!   the last user text in `guardContent`.
//!
//! ## §2.7 The text around the cursor
//!
//! With B tokens for both (the family's context for v2, 32,768 for v3 and v4) the text in front
//! gets its last ⌈0.93 · B⌉ and the text behind its first B − ⌈0.93 · B⌉, so **7 %**. What one does
//! not need the other does not get. Context items are joined by line breaks, cut to what is left,
//! and put in front.
//!
//! | family | messages | user message (P in front, S behind) | temperature | tokens | stop |
//! |---|---|---|--:|--:|---|
//! | `codegemma` | user | `<\|fim_prefix\|>P<\|fim_suffix\|>S<\|fim_middle\|>` | 0.95 | 128 | those and `<\|file_separator\|>` |
//! | `codellama` | user | `<PRE> P <SUF> S <MID>` | 0.95 | 128 | `<PRE>` `<SUF>` `<MID>` `<EOT>` |
//! | `deepseekcoder` | user | `<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>` | 0 | 128 | |
//! | `codestral` | system, user | `<s>[SUFFIX]S[PREFIX]P` | 0.32 | 64 | `[INST]` `[/INST]` `[PREFIX]` `[MIDDLE]` |
//! | `mistral`, `mixtral` | system, user | the same | 0 | 64 | the same |
//! | `llama3` | system, user | in words | 0 | 64 | |
//! | `gpt` | system, user | a line with the language, `<\|prefix\|>P<\|suffix\|>S` | | 64 | |
//! | others | system, user | in words, with file name and language | 0 | 128 | |
//!
//! All by `/chat/completions`, fill-in-the-middle marks too; never by `/completions`.
//!
//! ## §2.8 What is taken out of an answer
//!
//! | | what is taken out |
//! |---|---|
//! | completions of self-hosted models | nothing: a model's code fences reach the editor |
//! | generations with `prompt_version` `^1.0.0` | white space alone is empty |
//! | other generations | lines of three backticks and an optional word, anywhere, and backticks at the end; then repetitions; white space alone is empty. A line break goes in front where the text in front of the cursor does not end with one |
//! | streamed generations | the fences, line by line: a line goes on when it is whole, the rest at the end |
//! | completions of managed models | what repeats the first line behind the cursor at the answer's end; then repetitions; white space alone is empty |
//! | repetitions | single-line comments (`/*`, `//`, `#`) that stand above; groups of 5 or more lines that stand above, unless 25 % of their characters are in `()[];.,$%&^*@#!{}/` or their different characters are 35 % of all |
//!
//! # §3 The prompt registry
//!
//! ## §3.3 Versions
//!
//! 1. `^1.0.0` when the request has no version.
//! 2. The family's first folder that exists, else `base`. **Only that folder is searched**: a
//!    version that is missing there is not looked for in `base`.
//! 3. Exact: has to exist, pre-releases too. A range with both ends (`^`, `~`, `>=a,<b`): the
//!    highest stable one. A range with one end, `*` and `!=` may find pre-releases.
//! 4. No constraint: taken as a name; 400
//!    `Version 'abc' is not a valid PEP 440 constraint and no exact match found (available: […])`.
//! 5. Nothing fits: 400 `No version matching '^9.0.0' (available: […])`.
//!
//! GitLab sends `^1.0.0` nearly always: `contract::gitlab_client §8.2, §8.3` have the prompts,
//! their inputs and the exceptions.
//!
//! ## §3.4 The feature of a prompt
//!
//! Without `model_metadata`: the id's first segment, where `chat` is `duo_chat`;
//! `code_suggestions/completions` is `code_completions`, `code_suggestions/generations` is
//! `code_generations`; `classify_code_review_mention_intent`, `generate_session_title` and
//! `summarize_duo_workflow` are `duo_agent_platform`. Any other is 400
//! `Invalid feature setting: x`.
//!
//! # §4 Chat agent: `POST /v2/chat/agent`
//!
//! ## §4.1 Request
//!
//! That of `contract::gitlab_client §7.1`. `messages` has at least one (none: 500); `context` is
//! `{type, content}`, or `{type, title}`, or `{"type":"build"}`; `current_file` has `file_path`,
//! `data` and `selected_code`; an `agent_scratchpad` stands on an assistant's message only, else
//! 400 `agent_scratchpad can only be present when role is ASSISTANT`.
//! `options.agent_scratchpad.steps` wins over the messages. `\_` becomes `_` in thought and tool.
//! No field has a limit of length.
//!
//! ## §4.2 Authorization
//!
//! `duo_classic_chat`. With `duo_chat` alone only when the last user message contains `@GitLabDuo`,
//! else 403 `Duo Core no longer authorized to access Duo Classic Chat`; with neither 403
//! `{"detail":"Unauthorized to access duo chat"}`. Every category of `additional_context` in any
//! message needs `include_<category>_context`, else 403
//! `Unauthorized to access include_file_context`. All before the stream, as real statuses.
//!
//! ## §4.3 What the model is sent
//!
//! One system message with the tools, `unavailable_resources` and the date; the history; a prefill
//! with the steps so far, `Thought: …`, `Action: …`, `Action Input: …`, `Observation: …`, and
//! `Thought:`. Stop `Observation:` (not for `gpt`), temperature 0.1, 8192 tokens (`llama3` 4096).
//! Tools are text, not functions.
//!
//! | tool | scope | GitLab, by `X-Gitlab-Version` |
//! |---|---|---|
//! | `build_reader`, `commit_reader`, `merge_request_reader` | `ask_build`, `ask_commit`, `ask_merge_request` | 17.5.0-pre |
//! | `epic_reader`, `issue_reader`, `work_item_reader` | `ask_epic`, `ask_issue`, `ask_work_item` | any |
//! | `gitlab_documentation` | `documentation_search` | any |
//!
//! Without a version in the request only the last four; with authentication off all.
//!
//! ## §4.4 Response
//!
//! The lines of `contract::gitlab_client §7.2`.
//!
//! | `type` | `data` | when |
//! |---|---|---|
//! | `action` | `{tool, tool_input, thought}` | once, at the end, unless there was an answer |
//! | `final_answer_delta` | `{text, finish_reason}` | as it arrives; `finish_reason` is null until a last one with `text: ""` |
//! | `unknown` | `{text}` | once, at the end, when neither was found: all of it |
//! | `error` | `{message, retryable}` | then the connection is cut |
//! | `usage` | `{usage: {"<model>": {input_tokens, output_tokens}}}` | last line, never after an error |
//!
//! ## §4.5 ReAct text
//!
//! R is all that the model has written, without its reasoning, trimmed; in front of it stands
//! `Thought: `.
//!
//! 1. R contains `Final Answer:`: the answer is everything behind the first, trimmed. It wins over
//!    an action. White space at the end is held back while it streams.
//! 2. Else `Action:` and later `Action Input:` (white space or `-` may precede): the tool is
//!    between them, the input behind the second to the end, the thought in front of the first.
//!    `MergeRequestReader` is `merge_request_reader`; other names have to be exact.
//! 3. Else unknown.
//! 4. A tool that was not offered is the `error` event `tool not available`, not retryable.
//! 5. Reasoning (`qwen`): a leading `<think>…</think>` is removed; one that does not end hides
//!    everything; a `</think>` alone within 80 characters removes what precedes it.
//! 6. `retryable` when the message contains `overloaded_error` or `AnthropicError - Overloaded`.
//! 7. A stream that the model server cuts counts as whole.
//!
//! # §5 Authentication
//!
//! ## §5.1 Checks
//!
//! Those of `contract::gitlab_client §3.5`; the realm is compared before the instance. `sub` has to
//! equal `X-Gitlab-Instance-Id` for tokens of others, `X-Gitlab-Global-User-Id` for the gateway's
//! own.
//!
//! ## §5.2 Tokens
//!
//! RS256 only; `aud` contains `gitlab-ai-gateway` (`AIGW_CLOUD_CONNECTOR_SERVICE_NAME`); `exp`,
//! `nbf` and `iat` are checked, the leeway is *(unverified)*. Keys: the discovery documents of
//! `AIGW_GITLAB_URL` and `AIGW_CUSTOMER_PORTAL_URL`, and two of its own. Kept for 24 h, fetched
//! within a request, 10 s each; an issuer that is away is without keys, no key at all is 500. An
//! unreachable portal costs about 20 s: air-gapped sites set its variable to GitLab's own URL.
//!
//! ## §5.3 Claims
//!
//! `iss`, `sub`, `aud`, `exp`, `nbf`, `iat`, `jti`, `gitlab_realm` (`self-managed`, `saas`),
//! `scopes` (unit primitives), `gitlab_instance_id`, `gitlab_instance_uid`, `duo_seat_count`, and
//! an open map of others. A permission is a scope that is there; the gateway's own tokens are
//! refused for generations and for more tokens. Scopes of HTTP calls: those of
//! `contract::gitlab_client §5.1, §5.3`.
//!
//! ## §5.4 Its own tokens
//!
//! For callers with `complete_code` or `ai_gateway_model_provider_proxy` of another issuer.
//!
//! | claim | value |
//! |---|---|
//! | header `kid`, `alg` | of the signing key; RS256 |
//! | `iss`, `aud` | `gitlab-ai-gateway` |
//! | `sub` | `X-Gitlab-Global-User-Id` |
//! | `nbf`, `iat`, `exp` | now, now, in 1 hour |
//! | `jti` | a UUID |
//! | `gitlab_realm`, `gitlab_instance_id` | of the headers |
//! | `scopes` | those of the two that the caller has |
//! | `gitlab_instance_uid` | self-managed only |
//!
//! # §6 Environment variables
//!
//! Prefix `AIGW_`, nested by `__`. Unknown ones are ignored. "Since" is where GitLab's
//! documentation names them first, if after 18.9.
//!
//! | variable | default | |
//! |---|---|---|
//! | `AIGW_CUSTOM_MODELS__ENABLED` | `false`, container `true` | endpoints and keys of requests are taken |
//! | `AIGW_CUSTOM_MODELS__DISABLE_STREAMING` | `false` | calls models without streaming |
//! | `AIGW_CUSTOM_MODELS__EXTRA_HEADERS` | | JSON, added to every call of a model (19.x) |
//! | `AIGW_GITLAB_URL`, `AIGW_GITLAB_API_URL` | `https://gitlab.com`, `…/api/v4/` | first issuer; its API |
//! | `AIGW_CUSTOMER_PORTAL_URL` | `https://customers.gitlab.com` | second issuer |
//! | `AIGW_CLOUD_CONNECTOR_SERVICE_NAME` | `gitlab-ai-gateway` | audience, own issuer |
//! | `AIGW_SELF_SIGNED_JWT__SIGNING_KEY`, `__VALIDATION_KEY` | | RSA in PEM; without them GitLab shows "Token creation failed" |
//! | `DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY`, `__VALIDATION_KEY` | | the Agent Platform's |
//! | `AIGW_AUTH__BYPASS_EXTERNAL` | `false` | nobody is checked |
//! | `AIGW_AUTH__BYPASS_EXTERNAL_WITH_HEADER`, `__BYPASS_JWT_SIGNATURE` | `false` | tests: with `Bypass-Auth: true`; signatures not verified |
//! | `AIGW_FASTAPI__API_HOST`, `__API_PORT` | 0.0.0.0, 5000; container 5052 | listener |
//! | `AIGW_FASTAPI__METRICS_HOST`, `__METRICS_PORT` | 0.0.0.0, 8082 | metrics |
//! | `AIGW_FASTAPI__TLS__ENABLED`, `__CERT_FILE`, `__KEY_FILE` | `false` | HTTPS (since 19.1) |
//! | `AIGW_FASTAPI__TLS__SSL_CIPHERS` | `TLSv1` | since 19.2 |
//! | `AIGW_MTLS__ENABLED`, `__CERT_FILE`, `__KEY_FILE`, `__KEY_PASSWORD`, `__VERIFY`, `__CA_BUNDLE` | `false`, …, `__VERIFY` `true` | a client certificate towards models (since 19.2 or 19.3); the key may stand in the certificate's file |
//! | `AIGW_LOGGING__LEVEL`, `__FORMAT_JSON` | `INFO`, `true` | log |
//! | `AIGW_LOGGING__ENABLE_REQUEST_LOGGING` | `false` | prompts and answers in the log |
//! | `AIGW_DUO_CHAT__MODEL_REQUEST_TIMEOUT` | 30 s | documented since 19.3; a timeout in GitLab's request goes over it |
//! | `AIGW_DUO_CHAT__MAX_TOKENS` | | `max_tokens` of `chat/*` |
//! | `AIGW_BEDROCK_GUARDRAIL_CONFIG` | | JSON: `guardrailIdentifier` (1 to 2048 characters, an id or an ARN), `guardrailVersion` (optional: `DRAFT` or a number), `trace` (`enabled`, `disabled`; the latter is the default); documented since 19.0 |
//! | `WEB_CONCURRENCY` | | processes |
//! | `AWS_REGION_NAME`, `AWS_REGION`, `AWS_BEARER_TOKEN_BEDROCK`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_BEDROCK_RUNTIME_ENDPOINT` | | Bedrock; `BEDROCK_MANTLE_API_KEY` since 19.3 |
//! | `AZURE_API_VERSION` | `2025-02-01-preview` | Azure |
//! | `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` | | outbound proxy |
//! | `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` | | certificate authorities towards models, towards issuers; GitLab advises to set both |
//!
//! # §8 Errors
//!
//! ## §8.1 All paths
//!
//! | situation | status | body |
//! |---|--:|---|
//! | authentication | 401 | `{"error":"…"}` |
//! | scope missing | 403 | `{"detail":"Unauthorized to access …"}` |
//! | unknown path | 404 | `{"detail":"Not Found"}` |
//! | wrong method | 405, `Allow` | `{"detail":"Method Not Allowed"}` |
//! | body that does not fit, is no JSON, is missing | 422 | `{"detail":"Validation error"}`, with detailed logs the list of faults |
//! | unhandled | 500 | `Internal Server Error` as `text/plain` |
//! | a model client of the older kind | 503 | `{"detail":"Inference failed"}` |
//! | the same, model server 429 | 429, its `Retry-After` | `{"detail":"Too many requests. Please try again later."}` |
//!
//! ## §8.2 Prompts
//!
//! | situation | status | `detail` |
//! |---|--:|---|
//! | an input is missing | 422 | a sentence with the names of all |
//! | unknown prompt | **400** | with metadata a sentence with a path of the gateway's disk, without `Invalid feature setting: x` |
//! | version not found, no constraint | 400 | §3.3 |
//! | scope missing | 403 | `Unauthorized to access '<id>'` |
//! | model server's status N | **421** | `"N: <reason phrase>"`, `401: Unauthorized` |
//! | a status without a reason phrase (529) | 500 | |
//! | no connection to the model server | 421 | `500: Internal Server Error` |
//! | a stream | 200, then cut | none |
//!
//! GitLab reads 421 in Test connection (`contract::gitlab_client §10.1`), and counts it as a 4xx,
//! which opens no circuit breaker: 421 with `N: phrase` has to be kept.
//!
//! # §B Languages
//!
//! The official gateway recognizes 100 languages by extension and by the editor's name.
//! `model.lang` in a response is their id in lower case, which is not always the name: `cpp`,
//! `csharp`, `js` (`js`, `jsx`; editors: `javascript`, `javascriptreact`), `ts` (`ts`, `tsx`;
//! `typescript`, `typescriptreact`). Only `lang` and one line of three prompts depend on the table,
//! so an own one will do; a file whose extension is not in it still has to be completed, by its
//! extension's name.
