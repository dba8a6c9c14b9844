//! What GitLab (Rails, Workhorse, its editors) sends to the *Local AI Gateway URL*, and how it
//! reads the response.
//!
//! # §1 How GitLab chooses the URL
//!
//! The local URL is the administrator's setting: `http` or `https`, at most 2048 characters,
//! perhaps with a path prefix, not `localhost` in production; private networks are allowed. Rails
//! concatenates `{url}{path}`, so a trailing slash in the setting yields `//v1/…`: a server has to
//! tolerate it. The upgrade to 19.2 clears the setting (a known bug): no traffic arrives until it
//! is entered again.
//!
//! | setting of the feature | base URL | model sent |
//! |---|---|---|
//! | self-hosted | local | all of it (§4) |
//! | unassigned (default of a new row) | local | none |
//! | no row, or GitLab's default model while a local URL is set | local | none (code completion: a Fireworks default, §6.1) |
//! | disabled | refused before any request (code suggestions: 401) | – |
//! | GitLab-managed, a certain model chosen | `https://cloud.gitlab.com/ai` | `{"provider":"gitlab","feature_setting":"…","identifier":"…"}` |
//!
//! So a local gateway receives requests that name no model, and needs a default for them or a clear
//! 4xx. Where the row of a chat tool resolves to nothing Rails uses that of `duo_chat`. GitLab
//! never has the local gateway forward to its cloud: a feature with a certain GitLab-managed model
//! goes there directly.
//!
//! # §2 Headers
//!
//! ## §2.1 From Rails
//!
//! | header | value |
//! |---|---|
//! | `Authorization` | `Bearer <JWT>` (§3); nothing after `Bearer ` when the instance holds no synced token |
//! | `X-Gitlab-Authentication-Type` | `oidc` |
//! | `Content-Type` | `application/json`, also on requests without a body |
//! | `X-Request-ID` | GitLab's correlation id: 26 characters, or what GitLab's own client sent |
//! | `X-Gitlab-Rails-Send-Start` | Unix time as a decimal, `1762435200.123456` |
//! | `x-gitlab-host-name`, `x-gitlab-version`, `x-gitlab-deployment-type` | host; `18.9.0` without an edition; `self-managed`, `dedicated` or `.com` |
//! | `x-gitlab-instance-id` | the instance's UUID, or `uuid-not-set`; equals the token's `sub` |
//! | `x-gitlab-realm` | `self-managed` or `saas`; equals the token's `gitlab_realm` |
//! | `x-gitlab-global-user-id`, `x-gitlab-user-id` | an opaque hash, a number; both absent when there is no user |
//! | `x-gitlab-feature-enabled-by-namespace-ids` | comma-separated, usually empty on self-managed |
//! | `x-gitlab-feature-enablement-type` | `duo_pro`, `duo_enterprise`, `duo_core`, `duo_amazon_q`, `self_hosted_dap`, `self_hosted_usage_billing`, `dap_group_membership`, `tier`, or empty |
//! | `x-gitlab-enabled-feature-flags` | comma-separated, may be empty; an open list |
//! | `x-gitlab-enabled-instance-verbose-ai-logs` | `true` or `false`: the instance's setting that lets prompts be logged in detail |
//! | `X-Gitlab-Is-Team-Member` | `true` or `false` |
//! | `x-gitlab-namespace-id`, `x-gitlab-root-namespace-id` | numbers, where known |
//! | `X-Gitlab-Client-Type`, `-Client-Version`, `-Client-Name`, `X-Gitlab-Interface` | as received from the client, if it sent them |
//! | `X-Gitlab-Language-Server-Version` | code suggestions only, `6.21.0` |
//! | `X-Gitlab-Model-Prompt-Cache-Enabled` | code suggestions only, `true` or `false`; absent means `true` |
//! | `X-Gitlab-Unit-Primitive` | vendor proxies, Amazon Q and third-party agents only; since 19.x on most requests |
//! | `anthropic-version`, `Accept` | Anthropic proxy only: `2023-06-01`, `application/json` |
//!
//! 19.x adds `x-gitlab-organization-id`, `x-gitlab-project-id`, `x-gitlab-subject-type` (`human`,
//! `service_account` or empty) and `x-gitlab-client-ip`. Unknown headers must be ignored.
//!
//! ## §2.2 From Workhorse, in addition
//!
//! For code suggestions Workhorse sends the headers that Rails listed, with its own `User-Agent`,
//! plus the editor's conditional and range headers (`Range`, `If-Match`, …),
//! `Accept-Encoding: gzip`, and correlation and tracing headers. The user's own `Authorization` and
//! cookies are never forwarded.
//!
//! ## §2.5 What GitLab reads of a response's head
//!
//! | who | reads |
//! |---|---|
//! | Rails | the status; a body is parsed as JSON only when `Content-Type` is JSON: the token request, code completion and documentation search fail on any other type |
//! | Workhorse | nothing; forwards every header to the editor but `Cache-Control`, `Expires`, `Date` and `Pragma` |
//! | the editor | `Content-Type` and `X-Streaming-Format: sse` |
//!
//! `Retry-After` is not read; the non-streaming client retries 429 (§11.3).
//! `X-GitLab-Error-Origin: monolith` marks errors of Rails: a gateway does not set it.
//!
//! # §3 Tokens and keys
//!
//! ## §3.1 Which token is sent
//!
//! | first that applies | token |
//! |---|---|
//! | the unit primitive is `self_hosted_models`, or the feature's setting is self-hosted | signed by the instance |
//! | the instance's environment has `CLOUD_CONNECTOR_SELF_SIGN_TOKENS` | signed by the instance |
//! | else | the token synced from GitLab's customer portal (CustomersDot); **an empty bearer** when there is none (offline licence) |
//! | Test connection while code completion has no certain model | an empty bearer (a bug, fixed in 19.1 or 19.2) |
//! | replies to `@GitLabDuo` mentions in 18.11.7 and 19.2.1 | the portal's or an empty bearer (a bug, fixed in 19.3) |
//!
//! So a local gateway receives tokens of the instance, tokens of the portal (for what GitLab
//! believes to be its own models), empty bearers, and its own user tokens (§3.4). Unit primitives
//! that belong to no feature setting take the third row: `documentation_search`,
//! `ai_gateway_model_provider_proxy`, `generate_description`, `description_composer`,
//! `amazon_q_integration`.
//!
//! ## §3.2 Claims
//!
//! RS256, 2048 bits, header `{"typ":"JWT","alg":"RS256","kid":"<RFC 7638 thumbprint>"}`.
//!
//! | claim | value |
//! |---|---|
//! | `iss` | the instance's external URL: scheme, host, port, relative root |
//! | `sub` | the instance's UUID |
//! | `aud` | a list: the audiences of every service that the scopes belong to; the gateway's is `gitlab-ai-gateway` |
//! | `iat`, `nbf`, `exp` | now, 5 s ago *(inferred)*, in 1 hour; each request gets a new token |
//! | `jti` | a UUID |
//! | `gitlab_realm` | `self-managed` or `saas` |
//! | `scopes` | **every** unit primitive that the instance is entitled to, not only the one in question |
//! | `skip_usage_cutoff` | a boolean |
//!
//! The key in use is the oldest of those kept; a rotation swaps two, so two may be published while
//! one signs.
//!
//! ## §3.3 Where the keys are
//!
//! | `GET` | returns |
//! |---|---|
//! | `{gitlab}/.well-known/openid-configuration` | `issuer` and `jwks_uri`, which is `{gitlab}/oauth/discovery/keys` |
//! | `{gitlab}/oauth/discovery/keys` | `{"keys":[{"kty":"RSA","kid":"…","e":"AQAB","n":"…","use":"sig","alg":"RS256"}, …]}`: the keys of OIDC, CI jobs and Cloud Connector together, with `Cache-Control: public, max-age=86400, must-revalidate`, so 24 h |
//! | `https://customers.gitlab.com/.well-known/openid-configuration` | the portal's; an air-gapped site does without, so an unreachable portal must not make a gateway unready |
//!
//! An unknown `kid` is a rotation: fetch again, at a limited rate. While GitLab is unreachable the
//! last good set stays valid.
//!
//! ## §3.4 A user's token: `POST /v1/code/user_access_token`
//!
//! | | |
//! |---|---|
//! | request | no body; unit primitive `complete_code` (third-party agents: `ai_gateway_model_provider_proxy`); Rails waits 30 s, since 19.x 3 s |
//! | response | any 2xx of a JSON type: `{"token":"<opaque or JWT>","expires_at":1762438800}`, `expires_at` an integer in Unix seconds; a missing or blank `token` is an error in Rails |
//! | refusal | 403 `{"detail":"Unauthorized to create user access token"}` when neither scope is held or the caller already uses such a token |
//! | what the editor gets of a failure | the gateway's status (503 if there is none) and `{"message":"Token creation failed","error_description":…,"error_code":…,"error":…}`, from `message`, `error_code` and `error` of the body |
//!
//! Since 19.x Rails answers 400 "No Code Completion model provided" itself unless
//! `code_completions` is self-hosted.
//!
//! ## §3.5 What the official gateway checks
//!
//! | situation | status | body |
//! |---|---|---|
//! | no `Authorization` | 401 | `{"error":"No authorization header presented"}` |
//! | not `Bearer x` | 401 | `{"error":"Invalid authorization header"}` |
//! | `X-Gitlab-Authentication-Type` missing or not `oidc` | 401 | `{"error":"Invalid authentication token type - only OIDC is supported"}` |
//! | signature, expiry or audience wrong | 401 | `{"error":"Forbidden by auth provider"}` |
//! | `X-Gitlab-Instance-Id` differs from the token | 401 | `{"error":"Header mismatch 'X-Gitlab-Instance-Id'"}` |
//! | `X-Gitlab-Realm` differs | 401 | `{"error":"Header mismatch 'X-Gitlab-Realm'"}` |
//! | the gateway's own token, another user | 401 | `{"error":"Header mismatch 'X-Gitlab-Global-User-Id'"}` |
//! | scope missing | 403 | `{"detail":"Unauthorized to access …"}` |
//!
//! A claim that is empty is not compared. 401 has `error`, everything else `detail`. No token is
//! needed for `/monitoring/healthz`, `/monitoring/ready`, `/metrics` and `/v1/models/definitions`.
//!
//! # §4 The model in a request
//!
//! ## §4.1 `model_metadata`: chat agent, prompts, v3 and v4 of code
//!
//! ```json
//! {"provider":"openai","name":"mistral","endpoint":"http://vllm:8000/v1","api_key":"token",
//!  "identifier":"custom_openai/Mistral-7B-Instruct-v0.3"}
//! ```
//!
//! | field | value |
//! |---|---|
//! | `provider` | `openai` for every self-hosted model, Bedrock's too; accept `api`, `bedrock`, `vertex_ai`, `custom_openai`, `litellm` |
//! | `name` | the model **family** (§5.2), not a model's name |
//! | `endpoint` | URL of at most 255 characters; a dummy for Bedrock, whose form demands one; since 19.x null for platforms other than "API" |
//! | `api_key` | at most 2000 characters, or null |
//! | `identifier` | at most 255 characters, may be `""`; its prefix names the real provider (§4.4) |
//! | `iam_role` | Bedrock, about 19.5 or 19.6 *(inferred)*: a role to assume, session name `gitlab-ai-gateway`, external id from the token, never from headers or body; code completion does not carry it yet |
//!
//! | other forms | |
//! |---|---|
//! | GitLab-managed | `{"provider":"gitlab","feature_setting":"duo_chat","identifier":"<ref>"}`, `identifier` null or `""` when none was chosen: neither endpoint nor key |
//! | the same, code completion | `{"model_provider":"gitlab","model_name":""}` |
//! | Amazon Q | `{"provider":"amazon_q","name":"amazon_q","role_arn":"arn:aws:…"}` |
//! | no model | the key is **absent** (prompts, code) or **null** (the chat agent, which always sends it) |
//!
//! ## §4.2 Flat fields: `/v2/code/completions` only
//!
//! `model_provider` (`litellm`), `model_name` (family), `model_endpoint`, `model_api_key`,
//! `model_identifier`. The older `/v1/chat/*` has `provider: "litellm"`, `model`, `model_endpoint`,
//! `model_api_key`, `model_identifier`.
//!
//! ## §4.4 Identifiers
//!
//! Split at the first `/`. The slashes at an endpoint's end are dropped.
//!
//! | identifier | provider | model sent upstream | endpoint used |
//! |---|---|---|---|
//! | `custom_openai/<id>` | OpenAI-compatible | `<id>`, which may contain `/` | yes |
//! | `openai/<id>` | OpenAI | `<id>` | yes |
//! | `bedrock/<id>` | Bedrock | a model id, a profile or an ARN, also `converse/arn:…` (documented in 19.x) | no: region and credentials are the gateway's |
//! | `bedrock_mantle/<id>` (19.3, beta) | Bedrock's OpenAI-compatible endpoint | `<id>` | `https://bedrock-mantle.{region}.api.aws/v1` |
//! | `azure/<deployment>` | Azure OpenAI | `<deployment>` | yes |
//! | `vertex_ai/<id>` | Vertex AI | `<id>` | no |
//! | `anthropic/<id>`, any other `p/<id>` | that provider of LiteLLM's | `<id>` | yes |
//! | no slash, `gpt-4o` | as `custom_openai` | the whole | yes |
//! | `""` or null | as `custom_openai` | the family's default name | yes |
//!
//! # §5 Features, families, unit primitives
//!
//! ## §5.1 Features
//!
//! | # | key | title | unit primitives |
//! |--:|---|---|---|
//! | 0 | `code_generations` | Code Generation | `generate_code` |
//! | 1 | `code_completions` | Code Completion | `complete_code`, `code_suggestions` |
//! | 2 | `duo_chat` | General Chat | `duo_chat`, `duo_classic_chat`, `chat`, `include_{file,snippet,merge_request,issue,dependency,local_git,terminal,repository,user_rule,agent_user_environment}_context` |
//! | 3 | `duo_chat_explain_code` | Code Explanation | `explain_code` |
//! | 4 | `duo_chat_write_tests` | Test Generation | `write_tests` |
//! | 5 | `duo_chat_refactor_code` | Refactor Code | `refactor_code` |
//! | 6 | `duo_chat_fix_code` | Fix Code | `fix_code` |
//! | 7 | `duo_chat_troubleshoot_job` | Root Cause Analysis | `troubleshoot_job` |
//! | 8 | `generate_commit_message` | Merge Commit Message Generation | `generate_commit_message` |
//! | 9 | `summarize_new_merge_request` | Merge Request Summary | `summarize_new_merge_request` |
//! | 10 | `duo_chat_explain_vulnerability` | Vulnerability Explanation | `explain_vulnerability` |
//! | 11 | `resolve_vulnerability` | Vulnerability Resolution | `resolve_vulnerability` |
//! | 12 | `summarize_review` | Code Review Summary | `summarize_review` |
//! | 13 | `glab_ask_git_command` | GitLab Duo for CLI | `glab_ask_git_command` |
//! | 14 | `duo_chat_summarize_comments` | Discussion Summary | `summarize_comments` |
//! | 15 | `review_merge_request` | Code Review | `review_merge_request` |
//! | 16 | `duo_agent_platform` | All agents, except Agentic Chat | `duo_workflow_execute_workflow`, `duo_agent_platform` |
//! | 17 | `duo_agent_platform_agentic_chat` | Agentic Chat | none |
//!
//! 0 to 6 and 15 to 17 can always be set, the others with beta features enabled. A row is set to
//! *Disabled*, to a *GitLab-managed model* (before 18.9 "GitLab AI vendor model"), to a
//! *Self-hosted model*, or is unassigned.
//!
//! ## §5.2 Model families
//!
//! `mistral`, `llama3`, `codegemma`, `codestral`, `codellama`, `deepseekcoder`, `claude_3`, `gpt`,
//! `mixtral`, `general`; 19.x adds `gemini`, `embedding`, `qwen`. No family was seen for GLM, Kimi
//! or MiniMax: administrators choose `general` for them *(inferred)*. GitLab adds families with its
//! releases, so an unknown name is `general`, not an error.
//!
//! ## §5.3 The unit primitive that a call needs
//!
//! | call | scope |
//! |---|---|
//! | code completion, Test connection | `complete_code` |
//! | code generation | `generate_code` |
//! | chat agent | `duo_classic_chat`; `duo_chat` only for `@GitLabDuo` mentions; each category of context `include_<category>_context` |
//! | documentation search | `documentation_search` |
//! | embeddings | `generate_embeddings_codebase` |
//! | `chat/issue_reader`, `epic_reader`, `build_reader`, `merge_request_reader`, `work_item_reader` | `ask_issue`, `ask_epic`, `ask_build`, `ask_merge_request`, `ask_work_item` |
//! | `chat/commit_reader` | `duo_chat`, from version 1.1.0 `ask_commit` |
//! | `generate_description`, `categorize_question` | `generate_issue_description`, `duo_chat` |
//! | any other prompt | the one of its own name |
//!
//! # §6 Code suggestions
//!
//! The editor calls GitLab with `current_file` (`file_name` of at most 255 characters, the text
//! above and below the cursor of at most 400,000 each), `intent` (`completion`, `generation`),
//! `generation_type` (`comment`, `empty_function`, `small_file`), `stream`, `project_path`,
//! `user_instruction` and `context`. **Every other field passes through to the gateway unchecked**
//! (`project_id`, `telemetry`, `choices_count`, …). Rails cuts the file to 100,000 characters on
//! each side of the cursor and refuses outgoing bodies of more than 600,000 characters with 413.
//!
//! With `intent` `completion` it is a completion; else a generation with that `intent`, a
//! `user_instruction` or a `generation_type`, or when the file looks like one (a comment just above
//! the cursor, fewer than 5 lines of code, an empty function); else a completion.
//!
//! ## §6.1 Completion: `POST /v2/code/completions`
//!
//! | model | fields added to the editor's |
//! |---|---|
//! | self-hosted | `"model_provider":"litellm","prompt_version":2,"prompt":null`, `model_endpoint`, `model_name` (family), and when not blank `model_api_key`, `model_identifier` |
//! | none, or GitLab's default | `"prompt_version":1,"model_name":"codestral-2501","model_provider":"fireworks_ai"` |
//! | GitLab-managed | `"model_provider":"gitlab","model_name":"<ref>"` |
//! | GitLab's own fail-over | `"model_provider":"anthropic","prompt_version":3,"prompt":[{"role":…}]` |
//!
//! The response is that of `contract::ai_gateway_server §1.3`. With `choices: []` the editor shows
//! nothing. With `stream: true`: 200, `text/event-stream`, and the body is **raw text**, no SSE.
//!
//! ## §6.2 Generation: `POST /v4/code/suggestions`, `POST /v3/code/completions`
//!
//! v4 for editors that read SSE, else v3; since 19.x always v4. `model_metadata`, and in
//! `prompt_components` one `{"type":"code_editor_generation","payload":{…}}`:
//!
//! | field of `payload` | |
//! |---|---|
//! | `file_name`, `content_above_cursor`, `content_below_cursor`, `stream` | the editor's |
//! | `language_identifier` | a display name, `Python`, or `""` |
//! | `prompt_id`, `prompt_version` | `code_suggestions/generations`, `^1.0.0` whenever there is `model_metadata` |
//! | `prompt_enhancer` | `examples_array`, `trimmed_content_above_cursor` and `trimmed_content_below_cursor` (together at most 50,000 characters), `related_files`, `related_snippets`, `libraries`, `user_instruction` |
//!
//! The prompt requests `<new_code>` around the code; the gateway takes it and code fences
//! off again. The response is that of `contract::ai_gateway_server §1.4`. A v3 stream is raw text;
//! a v4 stream is SSE with `X-Streaming-Format: sse`, `event:` before `data:`, which is one line of
//! JSON: `stream_start`, `content_chunk`, `stream_end`.
//!
//! ## §6.3 Completion on v4
//!
//! Behind a flag since 19.1, off on self-managed; the flag was removed in autumn 2026 (19.5 or 19.6
//! *(inferred)*), and from then on completion always goes to `POST /v4/code/suggestions`: one
//! component of type `code_editor_completion` with the first two rows of §6.2 for payload, the
//! model only in `model_metadata`. The response is that of §6.2, and has to repeat `model` with
//! `engine`, `name` and `lang`. The official gateway keeps `/v2` until GitLab 21.0.
//!
//! ## §6.4 Editors that call the gateway directly
//!
//! GitLab's direct access (10 requests in 5 minutes per user) returns 201 with `base_url`, `token`
//! (§3.4), `expires_at`, the headers to send (§2.1) and `model_details`, which is **absent for a
//! self-hosted model**. The language server then sends `POST {base_url}/v2/code/completions` with
//! `Authorization: Bearer <token>` and its own body: **no model and no endpoint**. A gateway has to
//! bind a model to the token, or to have a default one. Direct access is refused with 403 when the
//! administrator disabled it, and with a GitLab-managed model of the namespace. The Web IDE calls
//! from a page: any origin, `POST`, any header.
//!
//! # §7 Chat agent: `POST /v2/chat/agent`
//!
//! ## §7.1 Request
//!
//! ```json
//! {"messages":[
//!   {"role":"user","content":"earlier question","agent_scratchpad":null},
//!   {"role":"assistant","content":"earlier answer",
//!    "agent_scratchpad":[{"action":{"thought":"…","tool":"issue_reader","tool_input":"#1"},
//!                         "observation":"…"}]},
//!   {"role":"user","content":"How do I …?","context":{"type":"issue","title":"…"},
//!    "current_file":{"file_path":"main.py","data":"print(1)","selected_code":true},
//!    "additional_context":[{"category":"snippet","id":"…","content":"…","metadata":{}}]},
//!   {"role":"assistant","agent_scratchpad":[{"action":{…},"observation":"…"}]}],
//!  "model_metadata":{…},"unavailable_resources":["Pipelines","Vulnerabilities"]}
//! ```
//!
//! | field | |
//! |---|---|
//! | `messages` | at most 50 of history, oldest first; roles `user`, `assistant`, `system` |
//! | a bare assistant message at the end | from the second loop on: "continue this question"; its last step has the newest `observation`, or none if the tool failed |
//! | `agent_scratchpad` of another role | the official gateway answers 400 unless it is null |
//! | `context` | may be null or absent; `type` is `issue`, `epic`, `merge_request`, `commit`, `build` or `work_item`; `title` is absent for `build` |
//! | `current_file` | null unless there is a selection or an open file |
//! | `additional_context[].category` | `file`, `snippet`, `merge_request`, `issue`, `dependency`, `local_git`, `terminal`, `user_rule`, `repository`, `directory`, `agent_user_environment`; the official gateway also takes `os_information`, and answers 422 to `user_rule` |
//! | `model_metadata` | always there, if only as null |
//! | `options.agent_scratchpad` | no longer sent, but documented for `curl`: `{"agent_type":"react","steps":[{"thought":…,"tool":…,"tool_input":…,"observation":…}]}` |
//!
//! ## §7.2 Response: JSON lines
//!
//! 200, `application/x-ndjson; charset=utf-8`, one `{"type":…,"data":{…}}` a line.
//!
//! | `type` | `data` | Rails |
//! |---|---|---|
//! | `final_answer_delta` | `text`, `finish_reason` | streams it to the user; all deltas together are the answer |
//! | `action` | `thought`, `tool`, `tool_input`, strings | runs the tool and calls again; only the **first** action of a response |
//! | `unknown` | `text` | the answer, when there is neither delta nor action |
//! | `error` | `message`, `retryable` | stops reading; `retryable` repeats the step up to 2 more times |
//! | `usage` | `usage` | ignored: 18.9 logs it as unknown |
//!
//! Any delta makes it an answer, and its actions are ignored. What the reader demands:
//!
//! 1. one object a line, from `{` to a `}` directly before `\n`: a `\r` breaks it;
//! 2. **every** line ends with `\n`, the last one too, or it is dropped;
//! 3. no raw line break inside, and nothing but ASCII: chunks are read as bytes;
//! 4. no SSE, no arrays; blank lines are skipped, and an event may be split anywhere;
//! 5. an event that equals part of the buffer is removed at its first match: flush after each.
//!
//! ## §7.3 Tools
//!
//! `build_reader`, `issue_reader`, `gitlab_documentation`, `epic_reader`, `merge_request_reader`,
//! `commit_reader`, `work_item_reader`; `tool_input` is a free string. Any other name is A9999.
//! Slash commands do not come here (§8.2). A tool that the user may not use is an `error` event
//! (G3001, §11.1).
//!
//! # §8 Prompts
//!
//! ## §8.1 `POST /v1/prompts/{id}`
//!
//! `{"inputs":{"…":"…"},"prompt_version":"^1.0.0","model_metadata":{…}}`
//!
//! | | |
//! |---|---|
//! | `prompt_version` | a string or null: exact `1.2.0`, caret `^1.0.0`, pre-release `1.2.0-dev`, `amazon_q/1.0.0`; with a self-hosted model practically always `^1.0.0` |
//! | `inputs` | flat: strings, nulls, and `documents`, a list of objects; the gateway adds `current_date` ("November 23, 2026") where it is absent |
//! | response of v1, of v2 | a **JSON string**; `{"content":"text","usage":{…}}`. Rails takes either from either; an empty body, and any status but 2xx, becomes "An unexpected error has occurred." |
//! | stream of v1, of v2 | raw text; one object a line, `{"content":"…","usage":…}` |
//!
//! v2 is behind a flag per user; 19.x uses it for chat tools too, and a draft removes v1.
//!
//! ## §8.2 Chat's tools and slash commands: `/v1/prompts/chat/{tool}`
//!
//! Always `stream: true`. The response is 200, any content type, **raw text**.
//!
//! | prompt | version without a self-hosted model | inputs |
//! |---|---|---|
//! | `chat/explain_code`, `write_tests`, `refactor_code`, `fix_code` | `^1.0.0` | `input`, `suggestions` (or null), `selected_text`, `file_content`, `language_info`; all but the first `libraries` (a list); the last two `file_content_reuse` |
//! | `chat/explain_vulnerability` | `1.0.1` | the common five, `title`, `identifiers`, `vulnerability_info`, `vulnerability_description` |
//! | `chat/troubleshoot_job` | `^1.0.0` | `input`, `suggestions`, `selected_text` (the log's last 100,000 characters), `language_info` |
//! | `chat/summarize_comments` | `^1.0.0` | the common five, `notes_content` (`<comment>…</comment>`, at most 320,000 characters) |
//! | `chat/{issue,epic,merge_request,commit,build,work_item}_reader` | `^1.0.0` | `input`, `suggestions` |
//! | `chat/documentation_search` | `^1.0.0` | `question`, `content_id` (`"ATTRS"`), `documents` (of `id`, `content`, `metadata`, from §9.1) |
//!
//! | prompt | what Rails reads out of the answer |
//! |---|---|
//! | readers | cut at `Question:`; what follows the opening of a `json` fence, up to the next fence: `{"ResourceIdentifierType":"current\|iid\|url\|reference","ResourceIdentifier":…}`. A text without `ResourceIdentifierType` gets the opening up to the first quote put in front, so a bare `iid", "ResourceIdentifier": 123}` is an answer as well. Bad JSON: up to 3 attempts, then M3003; any other failure M4001 |
//! | `chat/documentation_search` | the answer, then `ATTRS:` and a line `CNT-IDX-<id>` for each source; the user's stream stops at `ATTRS`. Ids match `[0-9a-z]+`; `metadata.filename` becomes the source's URL. A text that matches "i do…n…know" has no sources |
//! | others | Markdown, as it is |
//!
//! ## §8.3 AI actions: `/v1/prompts/{id}`, whole
//!
//! | prompt | version without a self-hosted model | inputs | expected |
//! |---|---|---|---|
//! | `generate_commit_message` | `1.2.0` | `diff` (at most 10,000 words) | text |
//! | `summarize_new_merge_request` | `^2.0.0` | `extracted_diff` (at most 2000 characters) | Markdown |
//! | `summarize_review` | `2.1.0` | `draft_notes_content` | Markdown |
//! | `review_merge_request` | `1.3.0` | `mr_title`, `mr_description`, `diff_lines`, `full_file_intro`, `full_content_section`, `custom_instructions_section` | tags, below |
//! | `resolve_vulnerability` | `1.0.1` | `name`, `filename`, `identifiers`, `vulnerable_code`, `source_code`, `vulnerability_description` | tags, below |
//! | `generate_description` | `^1.0.0` | `content`, `template` (or null) | Markdown |
//! | `measure_comment_temperature` | `^1.0.0` | `content` | text |
//! | `categorize_question` | `^1.0.0` | `question`, `previous_answer` (or null) | JSON as text: `category`, `detailed_category`, `language`, `labels` |
//! | `glab_ask_git_command` | `1.0.0` | `prompt` (under 300 characters) | text with fenced `git` commands |
//! | `model_configuration/check` | none sent | `{}` | anything (§10.1) |
//! | 19.x: `generate_session_title`, `summarize_duo_workflow` | | `context` and `definition`; `logs` | text |
//! | 19.x: `classify_code_review_mention_intent` | | `message` | `code_review_request`, `write_actions` or `agentic_chat` |
//! | 19.x: `feature_discovery_search` | `^1.0.0` | `query`, `features` (a list) | JSON array, or `{"feature_ids":[…]}` |
//!
//! | prompt | what Rails reads out of the answer |
//! |---|---|
//! | `review_merge_request` | the **last** `<review>…</review>`. Each comment begins a line with `<comment file="path" old_line="" new_line="12">` and ends one with `</comment>`; a file and one line number at least. Pairs of `<from>…</from>` and `<to>…</to>` become suggestions; `<summary>` is optional. When the call fails Rails repeats it once without the files' contents |
//! | `resolve_vulnerability` | `<fixed_code>` (missing or blank: a false positive), and optionally `<analysis>`, `<summary>`, `<is_false_positive>` with `true` or `false`; the line break after each opening tag is required |
//!
//! ## §8.4 Errors of prompts
//!
//! | status | body | why |
//! |--:|---|---|
//! | 422 | `{"detail":"Invalid version constraint"}` | `prompt_version` is no constraint |
//! | 400 | `{"detail":"No version matching …"}` | no version fits |
//! | 404 | `{"detail":"Prompt 'x' not found"}` | no such prompt |
//! | 403 | `{"detail":"Unauthorized to access 'x'"}` | scope missing |
//! | 422 | `{"detail":"'age'"}` | an input is missing |
//! | 421 | `{"detail":"401: Unauthorized"}` | the **model server** failed: `"<status>: <reason phrase>"` |
//!
//! # §9 Other requests
//!
//! ## §9.1 Documentation search: `POST /v1/search/gitlab-docs`
//!
//! | | |
//! |---|---|
//! | request | `{"type":"search-docs","metadata":{"source":"GitLab EE","version":"18.9.0"},"payload":{"query":"…"}}`; `payload.page_size` from 1 to 20, 4 by default |
//! | response, of a JSON type | `{"response":{"results":[{"id":"d119a1b73","content":"…","metadata":{"filename":"https://docs.gitlab.com/…"}}]},"metadata":{"provider":"…","timestamp":1762435200}}` |
//! | an empty result | `[]`; without a list (any error body) the tool raises, A9999 |
//!
//! ## §9.2 Anthropic proxy: `POST /v1/proxy/anthropic/v1/messages`
//!
//! The composer of merge request descriptions, always at the local URL, without the self-hosted
//! model, and with the portal's token or an empty bearer (§3.1). The headers of §2.1 with
//! `X-Gitlab-Unit-Primitive: description_composer` and `anthropic-version`; Anthropic's body with
//! `messages`, `model` (`claude-3-7-sonnet-…`), `max_tokens: 2048`, `temperature: 0`, perhaps
//! `system`. Rails reads `content[0].text`.
//!
//! ## §9.4 Embeddings: `POST /v1/embeddings/code_embeddings/index`, `/search`
//!
//! 19.x; semantic code search is a beta on self-managed (18.11 to 19.4). Unit primitive
//! `generate_embeddings_codebase`.
//!
//! | | |
//! |---|---|
//! | request | `{"model_metadata":{"provider":"litellm","name":"embedding","identifier":"custom_openai/bge-m3","endpoint":"http://…/v1","api_key":"…"},"litellm_drop_params":true,"contents":["code 1","code 2"],"dimensions":1024}`, or `model_metadata` with `"provider":"gitlab"` and `identifier` |
//! | response | `{"predictions":[{"embedding":[0.1],"index":0}],"model":{"engine":"litellm","name":"embedding","identifier":"…"}}` |
//! | errors | 422 with a sentence (`contract::ai_gateway_server §1.7`); 400, 401 and 429 with the model server's words in `detail` |
//!
//! ## §9.5 Model definitions: `GET /v1/models%2Fdefinitions`
//!
//! GitLab calls its cloud, the local URL only in development; waits 5 s, keeps it for 30 minutes.
//!
//! | key | of each |
//! |---|---|
//! | `models` | `name`, `identifier`, `provider`, `description`, `cost_indicator`, `deprecation` |
//! | `unit_primitives` | `feature_setting`, `default_model`, `selectable_models`, `beta_models`, `unit_primitives` |
//!
//! ## §9.6 Amazon Q
//!
//! `/v1/amazon_q/oauth/application`, `…/delete`, `…/verify`, `/v1/amazon_q/events`: with Amazon Q
//! only.
//!
//! ## §9.7 X-Ray
//!
//! Workhorse forwards a CI job's body to `/v1/x-ray/libraries` (30 s). Deprecated, and not served
//! by the official gateway either: 404 or 410.
//!
//! # §10 What an administrator checks
//!
//! ## §10.1 Test connection: `POST /v1/prompts/model_configuration%2Fcheck`
//!
//! GitLab waits 3 s, since 19.0 15 s. The body has `inputs: {}`, `stream: false` and
//! `model_metadata` with `name`, `endpoint`, `api_key`, `provider: "openai"` and `identifier`, of a
//! form that may be unsaved: `api_key` may be null, any field blank. `%2F` has to be decoded: it is
//! the prompt `model_configuration/check`. In 19.x this is also the troubleshooting page's `curl`.
//!
//! | response | GitLab shows |
//! |---|---|
//! | 200, any body | "Successfully connected to the self-hosted model" |
//! | 421 `{"detail":"401: Unauthorized"}` | "ERROR: The self-hosted model server returned code 401: Unauthorized" |
//! | other, `{"detail":[{"msg":"x"}]}` | "ERROR: AI Gateway returned code N: x" |
//! | other, `{"detail":"text"}` | "AI Gateway returned code N: Unknown error. Make sure your self-hosted model is running …" |
//! | other, `{"error":"…"}` | "AI Gateway returned code N: ", and nothing |
//! | none | the exception; 19.x "AI Gateway could not connect to the model endpoint. Verify …" |
//!
//! So the list form is the one whose text is shown. In 19.x a 421 that begins with `404`, for
//! `custom_openai/`, makes Rails itself call `GET {endpoint}/models` (5 s) and name up to five
//! served models.
//!
//! ## §10.2 Run health check
//!
//! The URL is set; `HEAD {local URL}` within 5 s, where **any status** is good; the licence. This
//! one call may be blocked by GitLab's outbound rules for private addresses although the others
//! work. With a feature left to GitLab-managed models its cloud is checked as well.
//!
//! ## §10.3 The rake task `gitlab:duo:verify_self_hosted_setup`
//!
//! `GET {local URL}/monitoring/healthz` has to be 200 within 10 s. Rails itself calls
//! `GET {endpoint}/v1/models` of every model: one that ends in `/v1` yields a harmless warning.
//!
//! # §11 What GitLab makes of failures
//!
//! ## §11.1 Duo Chat
//!
//! | code | what happened | shown |
//! |---|---|---|
//! | A1000 | no byte for the timeout, a head not whole after 20 s (§12.2) | "I'm sorry, I couldn't respond in time. Please try again." |
//! | A1001 | connection error; in effect unreachable for the chat agent | D |
//! | A1002 | 2xx without one event that can be parsed: empty, last line break missing, wrong framing | as A1000 |
//! | A1003 | the connection was closed inside a chunked body, or before the response; GitLab's troubleshooting page (19.x) names proxies that cut streams | D |
//! | A1004 | an `error` event, after the repetitions of a `retryable` one | D |
//! | A1005 | an `error` event with `prompt is too long` in its message | "… you've entered too many prompts. Please run /clear or /reset …" |
//! | G3001 | an `error` event with `tool not available` in its message | "… requires a different Duo subscription. Please contact your administrator." |
//! | A1006 | 10 steps without an answer | "… reached the limit before finding an answer …" |
//! | M3006 | **403** | "… you don't have the GitLab Duo subscription required to use Duo Chat. …" |
//! | A9999 | any other status but 2xx, connection refused or reset, DNS, TLS, a tool's unknown name, documentation search failed | D |
//!
//! D: "I'm sorry, I can't generate a response. Please try again." After the head a failure has to
//! be an `error` event, never a cut connection; `retryable` only for overload, since it triples the
//! load; the words `prompt is too long` for a full context; 403 for entitlement only.
//!
//! ## §11.2 Tools
//!
//! | code | what happened |
//! |---|---|
//! | M2000 | documentation search without an input |
//! | M3002 | Duo is off for the group or the project |
//! | M3003 | resource not found or not allowed, or a reader's JSON unusable after 3 attempts |
//! | M3005 | 403 for a tool's stream; reachable through documentation search only |
//! | M4000 | any failure in a slash command |
//! | M4001 | any failure in a reader |
//! | M4003, M4005 | a vulnerability command misused; a job that did not fail, or without a log |
//! | M5000 | serialisation |
//!
//! ## §11.3 Prompts
//!
//! | response | Rails, not streaming |
//! |---|---|
//! | 429 | up to 3 requests, 2 to 4 s and 4 to 16 s apart; `Retry-After` is not read |
//! | other 4xx | "An unexpected error has occurred." |
//! | 5xx | the same, not retried, and counted by a **circuit breaker**: open at 50 % of at least 10 requests, and while it is open nothing is sent |
//! | none | the same |
//!
//! Streaming: 403 becomes M3005, any other status but 2xx a connection error. **The body of an
//! error is shown to the user as text** before the status is looked at: keep it short, without
//! internals.
//!
//! ## §11.4 Code suggestions
//!
//! Workhorse relays status and body unchanged; without a response from the gateway it returns 500.
//! Rails' own refusals are 401, 404, 413, 422 and 429. Since 18.10 a billing call to GitLab's cloud
//! comes first for self-hosted models: when it fails the editor gets 503 (a bug in 19.4: 403), and
//! the local gateway sees no request.
//!
//! # §12 Time and transport
//!
//! ## §12.1 `ai_gateway_timeout_seconds`
//!
//! 60 to 600, **60** by default (18.7 and later). For the chat agent, prompts and documentation
//! search. Not for code suggestions (Workhorse waits **55 s** for a head, then without limit), Test
//! connection (§10.1), health checks (5, 3 and 10 s), tokens (§3.4), the Anthropic proxy (30 s),
//! model definitions (5 s).
//!
//! ## §12.2 What it means
//!
//! | | |
//! |---|---|
//! | silence | the limit is between two reads, not in all: a stream with a byte every 59 s is never cut. In JSON lines a blank line is skipped, so `\n` is a heartbeat |
//! | whole responses | from the first byte of the body all of it has to arrive within the same number of seconds |
//! | lines of the head, and of a chunk's size | one that is incomplete 20 s after Rails began to wait for it is a timeout (A1000). Waiting for the first byte may take the whole timeout, but then the line has to be whole: **send the head in one write** |
//!
//! A head sent at once is good for Rails, and for Workhorse's 55 s. Whole completions have to end
//! by themselves before those.
//!
//! ## §12.3 HTTP
//!
//! | | |
//! |---|---|
//! | versions | Rails: HTTP/1.1, a new connection for each request; Workhorse: Go's client, HTTP/2 over TLS if offered |
//! | `Accept-Encoding` | both send gzip; a streamed response must not be compressed |
//! | bodies | code up to 600 KB, reviews several MB, chat in theory tens of MB (50 messages with context) |
//! | trust | Rails: the system's authorities and GitLab's own; Workhorse: the system's |
//!
//! # §13 Workhorse
//!
//! Rails answers the editor's code suggestion with an instruction, and Workhorse sends the request
//! that it names (URL, method, headers, body; no redirects; 55 s for the head) and streams the
//! response with a flush after each read. When the editor disconnects it cancels: a gateway has to
//! stop then.
