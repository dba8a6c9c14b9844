//! Every key of the file: what it takes, its default, what it is for, and whether this version acts on it.
//! The one list that the reader, the "did you mean", `config/reference.toml` and the manual share.

use crate::route::ProviderKind;

pub(super) use super::key::{Acts, Key, Preset, Takes};
pub(super) use super::key_paths::{children, find};
use Preset::{Example, Is};

const fn key(path: &'static str, takes: Takes, preset: Preset, doc: &'static str) -> Key {
    Key { path, takes, preset, acts: Acts::Yes, doc }
}

const fn bedrock(path: &'static str, takes: Takes, preset: Preset, doc: &'static str) -> Key {
    key(path, takes, preset, doc).acts(BEDROCK)
}

const fn openai(path: &'static str, takes: Takes, preset: Preset, doc: &'static str) -> Key {
    key(path, takes, preset, doc).acts(OPENAI)
}

const fn azure(path: &'static str, takes: Takes, preset: Preset, doc: &'static str) -> Key {
    key(path, takes, preset, doc).acts(AZURE)
}

const URL: &str = "a URL like \"http://host:port/v1\"";
const PEM: &str = "a PEM file";
const SHORT: Takes = Takes::Duration("10ms", "10m");
const QUEUE_WAIT: Takes = Takes::Duration("1ms", "5m");
const WAIT: Takes = Takes::Duration("10ms", "30m");
const CONNECT: Takes = Takes::Duration("10ms", "60s");
const LATER: Takes = Takes::Duration("10ms", "1h");
const MANY: Takes = Takes::Integer(1, 1_000_000);
const TOKENS: Takes = Takes::Integer(1, 100_000_000);
const ENDPOINT: Takes = Takes::Word(&["completions", "chat"]);
const LIKE: &str = "as the family it is like";
const TOTAL: Takes = Takes::Duration("10ms", "2h");
const BEDROCK: Acts = Acts::Only(&[ProviderKind::Bedrock, ProviderKind::BedrockOpenAi]);
const OPENAI: Acts = Acts::Only(&[ProviderKind::OpenAi]);
const AZURE: Acts = Acts::Only(&[ProviderKind::Azure]);
const OF_TIMEOUTS: Preset = Example("\"30s\"", "from [timeouts]");

/// The table. Order is that of `config/reference.toml`.
pub(super) static KEYS: &[Key] = &[
    key(
        "server.listen",
        Takes::Address,
        Is("\"127.0.0.1:5052\""),
        "GitLab's \"Local AI Gateway URL\". 0.0.0.0 for every interface",
    ),
    key("server.workers", Takes::Integer(1, 1024), Example("2", "one per core"), "threads that serve requests"),
    key(
        "server.tls.cert",
        Takes::Text(PEM),
        Example("\"tls.crt\"", "plain HTTP"),
        "HTTPS on the listener: the certificate, then what it was signed with. Read again when it changes",
    ),
    key(
        "server.tls.key",
        Takes::Text(PEM),
        Example("\"tls.key\"", "none; must be said beside cert"),
        "its key, without a passphrase. Read again when it changes",
    ),
    key(
        "server.tls.client_ca",
        Takes::Text(PEM),
        Example("\"clients.crt\"", "clients need no certificate"),
        "clients must show a certificate of one of these authorities (mTLS)",
    ),
    key(
        "admin.listen",
        Takes::Address,
        Is("\"127.0.0.1:8082\""),
        "/metrics /live /ready /status, never on the public listener",
    ),
    key(
        "agent_platform.listen",
        Takes::Address,
        Example("\"0.0.0.0:50052\"", "no such listener"),
        "GitLab's \"Local URL for the Duo Agent Platform service\"",
    )
    .acts(Acts::NotYet),
    key(
        "gitlab.url",
        Takes::Text("a URL like \"https://gitlab.example.com\""),
        Example("\"https://gitlab.example.com\"", "none"),
        "the GitLab whose tokens are accepted; its keys are fetched from /.well-known/openid-configuration there",
    ),
    key(
        "gitlab.cloud_issuer",
        Takes::Text("a URL like \"https://customers.gitlab.com\""),
        Example("\"https://customers.gitlab.com\"", "none, and nothing is asked of it"),
        "GitLab's licence server, whose tokens GitLab sends for features without a self-hosted model",
    ),
    key(
        "gitlab.audience",
        Takes::Text("a name like \"gitlab-ai-gateway\""),
        Is("\"gitlab-ai-gateway\""),
        "this service's name among those that a token is for",
    ),
    key(
        "gitlab.cloud_url",
        Takes::Text("a URL like \"https://cloud.gitlab.com/ai\""),
        Is("\"https://cloud.gitlab.com/ai\""),
        "GitLab's cloud gateway, where features set to \"gitlab\" go with the caller's own token",
    ),
    key(
        "auth.mode",
        Takes::Word(&["off", "keys", "gitlab"]),
        Example("\"gitlab\"", "\"gitlab\" with gitlab.url, else \"keys\" with static_keys, else \"off\""),
        "who may call: everybody, the holders of a key, or GitLab by its tokens and the holders of a key",
    ),
    key("auth.allow_public", Takes::Bool, Is("false"), "whether \"off\" may serve on an address that is not loopback"),
    key(
        "auth.static_keys",
        Takes::Secrets,
        Example(
            "[{ env = \"WEIR_CLIENT_KEY\", name = \"ci\", models = [\"codestral\"], requests_per_minute = 60, tokens_per_minute = 100000 }]",
            "none",
        ),
        "keys that a caller may present as a bearer token; what follows the key is optional: a name, the models of this file that it is for, rates over those of [limits]",
    ),
    key(
        "auth.user_tokens.signing_key",
        Takes::Secret,
        Example("{ env = \"SIGNING_KEY\" }", "one made at start-up"),
        "signs the tokens that IDEs get for code completion: an RSA key in PEM, the same one in every replica",
    ),
    key(
        "auth.user_tokens.validation_key",
        Takes::Secret,
        Example("{ env = \"PREVIOUS_KEY\" }", "none"),
        "a key whose tokens are good too: the previous one for an hour, or the next one before every replica signs with it",
    ),
    key(
        "models.{name}.identifier",
        Takes::Text("a string"),
        Example("\"custom_openai/Codestral-22B-v0.1\"", "the name, of an OpenAI-compatible server"),
        "what the model server calls the model; the prefix names the kind of server",
    ),
    key(
        "models.{name}.family",
        Takes::Text("a string"),
        Example("\"codestral\"", "\"general\""),
        "GitLab's model family: how the model likes to be prompted",
    ),
    key(
        "models.{name}.endpoint",
        Takes::Text(URL),
        Example("\"http://gpu-1:8000/v1\"", "none; this or endpoints"),
        "where the model server is. Bedrock: default AWS_BEDROCK_RUNTIME_ENDPOINT, else the region's public one. Anthropic: default https://api.anthropic.com",
    ),
    key(
        "models.{name}.endpoints",
        Takes::Texts("an array of URLs like [\"http://host:port/v1\"]"),
        Example("[\"http://gpu-1:8000/v1\", \"http://gpu-2:8000/v1\"]", "none; this or endpoint"),
        "its replicas",
    ),
    key(
        "models.{name}.api_key",
        Takes::Secret,
        Example("{ env = \"VLLM_API_KEY\" }", "none"),
        "the model server's key; or { file = \"/run/secrets/x\" }. Azure: one of the resource's keys. Bedrock: an API key",
    ),
    key(
        "models.{name}.context_tokens",
        TOKENS,
        Example("16384", "its family's"),
        "the model's window, question and answer together: what vLLM calls --max-model-len",
    ),
    key(
        "models.{name}.completion_endpoint",
        ENDPOINT,
        Example("\"chat\"", "its family's"),
        "which call completes code: see [families]",
    )
    .acts(Acts::Only(&[ProviderKind::OpenAi, ProviderKind::Azure])),
    openai(
        "models.{name}.health_check",
        Takes::Text("a path like \"/health\", or \"off\""),
        Example("\"/health\"", "with several endpoints each one's list of models, else \"off\""),
        "what each endpoint is asked now and then, below the server's root; any answer but 5xx is good",
    ),
    openai(
        "models.{name}.load",
        Takes::Word(&["vllm"]),
        Example("\"vllm\"", "requests are counted here"),
        "read each endpoint's load at /metrics, twice a second: what other gateways send counts, too",
    ),
    openai(
        "models.{name}.affinity",
        Takes::Bool,
        Is("false"),
        "whether requests that begin alike go to the same endpoint, whose prompt cache knows them, unless it has much more to do",
    ),
    key("models.{name}.timeouts.connect", CONNECT, OF_TIMEOUTS, "this model's own limits, over those of [timeouts]"),
    key("models.{name}.timeouts.first_byte", WAIT, OF_TIMEOUTS, ""),
    key("models.{name}.timeouts.idle", WAIT, OF_TIMEOUTS, ""),
    key("models.{name}.timeouts.total", TOTAL, OF_TIMEOUTS, ""),
    key(
        "models.{name}.tls.extra_ca",
        Takes::Texts("an array of PEM files"),
        Example("[\"authority.crt\"]", "those of [tls], besides which these hold"),
        "TLS with this model's servers alone",
    ),
    key("models.{name}.tls.client_cert", Takes::Text(PEM), Example("\"client.crt\"", "that of [tls]"), ""),
    key("models.{name}.tls.client_key", Takes::Text(PEM), Example("\"client.key\"", "that of [tls]"), ""),
    key(
        "models.{name}.max_parallel",
        Takes::Integer(1, 1_000_000),
        Example("16", "no limit"),
        "requests at this model at a time, until their answers end",
    ),
    key(
        "models.{name}.max_queue",
        Takes::Integer(0, 1_000_000),
        Example("64", "limits.queue"),
        "requests that wait for it: completions before chat before background jobs",
    ),
    key(
        "models.{name}.max_wait",
        QUEUE_WAIT,
        Example("\"2s\"", "limits.queue_wait"),
        "for at most this long, then 503 with Retry-After",
    ),
    bedrock(
        "models.{name}.region",
        Takes::Text("a region like \"eu-central-1\""),
        Example("\"ap-northeast-1\"", "the identifier's, else AWS_REGION, else AWS_REGION_NAME"),
        "Bedrock: where the model is",
    ),
    bedrock(
        "models.{name}.signing_host",
        Takes::Text("a host like \"bedrock-runtime.eu-central-1.amazonaws.com\""),
        Example("\"bedrock-runtime.ap-northeast-1.amazonaws.com\"", "the endpoint's"),
        "Bedrock: the host to send and sign when the endpoint is a proxy in front of it",
    ),
    bedrock(
        "models.{name}.access_key_id",
        Takes::Secret,
        Example(
            "{ env = \"TEAM_KEY_ID\" }",
            "AWS_BEARER_TOKEN_BEDROCK, else AWS_ACCESS_KEY_ID, else AWS's credential chain",
        ),
        "Bedrock: credentials of this model. api_key takes a Bedrock API key instead",
    ),
    bedrock("models.{name}.secret_access_key", Takes::Secret, Example("{ env = \"TEAM_SECRET\" }", "none"), ""),
    bedrock(
        "models.{name}.session_token",
        Takes::Secret,
        Example("{ env = \"TEAM_TOKEN\" }", "none"),
        "With a temporary access key",
    ),
    bedrock(
        "models.{name}.guardrail.identifier",
        Takes::Text("a guardrail's id or ARN"),
        Example("\"abc123\"", "AIGW_BEDROCK_GUARDRAIL_CONFIG"),
        "Bedrock: a guardrail for every request",
    ),
    bedrock(
        "models.{name}.guardrail.version",
        Takes::Text("\"DRAFT\" or a number as a string"),
        Example("\"1\"", "none: AWS's choice"),
        "",
    ),
    bedrock(
        "models.{name}.guardrail.trace",
        Takes::Word(&["enabled", "disabled", "enabled_full"]),
        Example("\"enabled\"", "AWS's, \"disabled\""),
        "",
    ),
    bedrock(
        "models.{name}.bedrock_openai",
        Takes::Bool,
        Example("true", "false: Converse, which more models know"),
        "Bedrock: ask its OpenAI-compatible endpoint, nothing is translated",
    ),
    azure(
        "models.{name}.api_version",
        Takes::Text("v1, preview or a date like \"2025-02-01-preview\""),
        Example("\"2025-02-01-preview\"", "AZURE_API_VERSION, else \"v1\""),
        "Azure: the API's version",
    ),
    azure(
        "models.{name}.entra.identity",
        Takes::Word(&["application", "workload", "managed"]),
        Example(
            "\"managed\"",
            "by what else is said here, else by AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE or IDENTITY_ENDPOINT",
        ),
        "Azure: Entra ID instead of a key, as an application by its secret, as the cluster's or the machine's identity",
    ),
    azure("models.{name}.entra.tenant", Takes::Text("a tenant's id"), Example("\"…\"", "AZURE_TENANT_ID"), ""),
    azure("models.{name}.entra.client_id", Takes::Text("a client id"), Example("\"…\"", "AZURE_CLIENT_ID"), ""),
    azure(
        "models.{name}.entra.client_secret",
        Takes::Secret,
        Example("{ env = \"SECRET\" }", "AZURE_CLIENT_SECRET"),
        "",
    ),
    azure(
        "models.{name}.entra.token_file",
        Takes::Text("a file's path"),
        Example("\"/var/run/secrets/azure/tokens/azure-identity-token\"", "AZURE_FEDERATED_TOKEN_FILE"),
        "the cluster's token, read anew each time",
    ),
    azure(
        "models.{name}.entra.authority",
        Takes::Text("a URL like \"https://login.microsoftonline.com\""),
        Is("\"https://login.microsoftonline.com\""),
        "where tokens are given out; AZURE_AUTHORITY_HOST",
    ),
    azure(
        "models.{name}.entra.scope",
        Takes::Text("a scope like \"https://cognitiveservices.azure.com/.default\""),
        Example(
            "\"https://cognitiveservices.azure.com/.default\"",
            "that with a dated api_version, else \"https://ai.azure.com/.default\"",
        ),
        "what the token is for",
    ),
    key(
        "families.{name}.like",
        Takes::Text("the name of a built-in family"),
        Example("\"codestral\"", "itself if it is built in, else \"general\""),
        "the family that this one is like but for the lines here. config/families.toml has those that are built in",
    ),
    key(
        "families.{name}.completion",
        Takes::Word(&["fim", "chat"]),
        Example("\"fim\"", LIKE),
        "how code is completed: between the marks of fim.template, or by asking for it in words",
    ),
    key(
        "families.{name}.completion_endpoint",
        ENDPOINT,
        Example("\"completions\"", "\"completions\" for \"fim\" on OpenAI-compatible servers, else \"chat\""),
        "which call of the server that is: without a chat template around it, or with one",
    ),
    key(
        "families.{name}.fim.template",
        Takes::Text("a text with {prefix} and {suffix}"),
        Example("\"[SUFFIX]{suffix}[PREFIX]{prefix}\"", LIKE),
        "the model's own marks. Without the beginning-of-text mark, which the server adds",
    ),
    key(
        "families.{name}.fim.stop",
        Takes::Texts("an array of texts"),
        Example("[\"[PREFIX]\", \"[SUFFIX]\"]", LIKE),
        "texts that end a completion",
    ),
    key("families.{name}.context_tokens", TOKENS, Example("32768", LIKE), "the window, question and answer together"),
    key("families.{name}.completion_tokens", TOKENS, Example("128", LIKE), "at most this much completed code"),
    key("families.{name}.generation_tokens", TOKENS, Example("2048", LIKE), "at most this much generated code"),
    key("families.{name}.max_tokens", TOKENS, Example("4096", LIKE), "at most this much of other answers"),
    key("families.{name}.temperature", Takes::Number(0.0, 2.0), Example("0.0", LIKE), "0 is greedy"),
    key(
        "families.{name}.strip_reasoning",
        Takes::Bool,
        Example("true", LIKE),
        "whether <think> blocks are taken off its answers",
    ),
    key(
        "families.{name}.single_system",
        Takes::Bool,
        Example("true", LIKE),
        "whether system messages become one, for chat templates that take no second",
    ),
    key(
        "families.{name}.tools",
        Takes::Word(&["native", "react"]),
        Example("\"native\"", LIKE),
        "how chat gives it tools: by the server's tool calling, or in the text",
    ),
    key(
        "families.{name}.prompts",
        Takes::Texts("an array of folders of prompts"),
        Example("[\"codestral\", \"mistral\"]", LIKE),
        "where its prompts are looked for before \"base\"",
    ),
    key(
        "families.{name}.unescape_underscores",
        Takes::Bool,
        Example("false", LIKE),
        "whether it writes \\_ where code has _",
    ),
    key("features.{feature}", Takes::Choice, Example("\"codestral\"", "features.default"), ""),
    key(
        "features.{feature}.model",
        Takes::Text("a model's name"),
        Example("\"codestral\"", "none"),
        "the table form of a feature's line",
    ),
    key(
        "features.{feature}.fallback",
        Takes::Texts("an array of models' names"),
        Example("[\"gpt\"]", "none"),
        "models to ask when this one fails before its first word, in this order",
    ),
    key(
        "features.{feature}.timeouts.connect",
        CONNECT,
        OF_TIMEOUTS,
        "this feature's own limits, over those of its model",
    ),
    key("features.{feature}.timeouts.first_byte", WAIT, OF_TIMEOUTS, ""),
    key("features.{feature}.timeouts.idle", WAIT, OF_TIMEOUTS, ""),
    key("features.{feature}.timeouts.total", TOTAL, OF_TIMEOUTS, ""),
    key(
        "features.request_models",
        Takes::Word(&["allow", "listed", "ignore"]),
        Is("\"allow\""),
        "a model that GitLab names in a request: use it, only if its endpoint is in this file, or never",
    ),
    key(
        "features.request_loopback",
        Takes::Bool,
        Is("false"),
        "whether such a model may be on this machine; link-local addresses are always refused",
    ),
    key(
        "docs.index",
        Takes::Text("a file that `weir docs index` wrote"),
        Example("\"gitlab-docs.index\"", "none: documentation search finds nothing"),
        "what GitLab's chat finds in the documentation; read again with this file",
    ),
    key(
        "docs.base_url",
        Takes::Text("a URL like \"https://docs.gitlab.com\""),
        Is("\"https://docs.gitlab.com\""),
        "where the links to its pages lead; \"https://gitlab.example.com/help\" for GitLab's own help",
    ),
    key(
        "prompts.dir",
        Takes::Text("a directory"),
        Example("\"prompts\"", "the prompts in the program"),
        "prompt files that replace or join those in the program; `weir prompts show ID` prints one to begin with",
    ),
    key("timeouts.connect", CONNECT, Is("\"2s\""), "DNS, TCP and TLS"),
    key(
        "timeouts.first_byte",
        WAIT,
        Is("\"60s\""),
        "from the request sent to the first byte of the answer (GitLab's own default)",
    ),
    key("timeouts.idle", WAIT, Is("\"60s\""), "between two chunks of a stream"),
    key(
        "timeouts.total",
        TOTAL,
        Is("\"600s\""),
        "the whole request (GitLab's own maximum); code suggestions at most 50s",
    ),
    key(
        "timeouts.chat_surface",
        Takes::Word(&["event", "answer"]),
        Is("\"event\""),
        "what Duo Chat's user sees of an expired limit: GitLab's sentence for any failure, or A1000 as the answer",
    ),
    key(
        "chat.tools",
        Takes::Word(&["auto", "native", "react"]),
        Is("\"auto\""),
        "how models call GitLab's tools: by their family, always as functions, or always as text",
    ),
    key(
        "chat.heartbeat",
        Takes::Duration("10ms", "55s"),
        Is("\"15s\""),
        "a silence of Duo Chat's stream after which a blank line is sent: GitLab, and proxies before it, give up after 60s",
    ),
    key(
        "limits.max_body",
        Takes::Size("1KiB", "1GiB"),
        Is("\"64MiB\""),
        "a longer request body is 413 before it is buffered",
    ),
    key("limits.max_headers", Takes::Size("8KiB", "1MiB"), Is("\"32KiB\""), "a longer request head is 431"),
    key(
        "limits.header_timeout",
        SHORT,
        Is("\"15s\""),
        "a client that does not finish its headers, or sends nothing more on a connection that is kept, is let go",
    ),
    key("limits.body_timeout", WAIT, Is("\"60s\""), "a client that does not finish its body is let go"),
    key(
        "limits.in_flight",
        Takes::Integer(1, 1_000_000),
        Is("4096"),
        "requests being answered; beyond it they wait in",
    ),
    key("limits.queue", Takes::Integer(0, 1_000_000), Is("1024"), "a bounded queue, for at most"),
    key("limits.queue_wait", QUEUE_WAIT, Is("\"1s\""), "then 503 with Retry-After"),
    key(
        "limits.connections_per_client",
        Takes::Integer(1, 1_000_000),
        Example("64", "no limit"),
        "open connections of one address; what is beyond is closed. Not behind a proxy, which is one address",
    ),
    key(
        "limits.requests_per_minute",
        Takes::Integer(1, 1_000_000_000),
        Example("600", "no limit"),
        "requests of one caller (a GitLab with its users, a static key, else an address): at most as many at once, then evenly; 429 with Retry-After",
    ),
    key(
        "limits.tokens_per_minute",
        Takes::Integer(1, 1_000_000_000),
        Example("100000", "no limit"),
        "tokens of one caller, read and written: charged when the answer ends, so that it may owe some, which its next request waits for",
    ),
    key(
        "limits.shared",
        Takes::Secret,
        Example("\"redis://host:6379\"", "each process counts for itself"),
        "a Redis (5 or later) or Valkey where several gateways count rates together; { env = \"REDIS_URL\" } if it has a password, rediss:// for TLS. While it is away each counts for itself",
    ),
    key(
        "tls.extra_ca",
        Takes::Texts("an array of PEM files"),
        Is("[]"),
        "certificate authorities of every server that is called, besides the system's. Read again when they change",
    ),
    key(
        "tls.client_cert",
        Takes::Text(PEM),
        Example("\"client.crt\"", "none"),
        "who we are to model servers that ask: the certificate, then what it was signed with. Read again when it changes",
    ),
    key(
        "tls.client_key",
        Takes::Text(PEM),
        Example("\"client.key\"", "none; must be said beside client_cert"),
        "its key, without a passphrase. Read again when it changes",
    ),
    key(
        "resilience.retry_budget",
        Takes::Number(0.0, 1.0),
        Is("0.2"),
        "extra requests to a model's replicas, as a share of requests",
    ),
    key("resilience.breaker.failures", MANY, Is("5"), "so many failures in a row pass a replica over"),
    key(
        "resilience.breaker.error_rate",
        Takes::Number(0.01, 1.0),
        Is("0.5"),
        "so does this share of ten and more in 10s",
    ),
    key("resilience.breaker.open", LATER, Is("\"5s\""), "for so long; then one request sees whether it is back"),
    key("resilience.breaker.open_max", LATER, Is("\"60s\""), "doubles each time it is not, up to this"),
    key("resilience.breaker.slow_start", LATER, Is("\"10s\""), "one that is back has its whole share after this"),
    key("resilience.health_check.every", SHORT, Is("\"10s\""), "between two checks (models.{name}.health_check)"),
    key("resilience.health_check.timeout", SHORT, Is("\"2s\""), "how long one may take"),
    key(
        "resilience.drain",
        Takes::Duration("0s", "1h"),
        Is("\"30s\""),
        "how long streams may go on after SIGTERM, or after weir serve --replace",
    ),
    key(
        "resilience.drain_delay",
        Takes::Duration("0s", "5m"),
        Is("\"0s\""),
        "how long new connections are still taken after SIGTERM, when /ready says 503 already: a load balancer's \
         time to notice",
    ),
    key(
        "telemetry.level",
        Takes::Word(&["error", "warn", "info", "debug", "trace"]),
        Is("\"info\""),
        "the operator's log, on standard error",
    ),
    key(
        "telemetry.format",
        Takes::Word(&["json", "text"]),
        Example("\"json\"", "text on a terminal, json elsewhere"),
        "how it is written",
    ),
    key("telemetry.log_prompts", Takes::Bool, Is("false"), "this version never logs prompts").acts(Acts::NotYet),
    key(
        "telemetry.otlp",
        Takes::Text("a URL like \"http://collector:4318\""),
        Example("\"http://collector:4318\"", "none"),
        "where OpenTelemetry goes",
    )
    .acts(Acts::NotYet),
];
