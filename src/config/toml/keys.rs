//! Every key of the file: its type, its default, what it is for, and whether this version acts on
//! it. The one list that the reader, the "did you mean", `config/reference.toml` and the manual
//! share.

use crate::config::toml::key::{
    CONNECT, DefaultValue, Key, OF_TIMEOUTS, PEM, QUEUE_WAIT, Support, TOTAL, ValueType, WAIT, key,
};
use crate::config::toml::model_keys;
use DefaultValue::{Example, Fixed};

const SHORT: ValueType = ValueType::Duration("10ms", "10m");
const LONG: ValueType = ValueType::Duration("10ms", "1h");
const COUNT: ValueType = ValueType::Integer(1, 1_000_000);

/// Returns every key, in the order of `config/reference.toml`.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    BEFORE_MODELS.iter().chain(model_keys::KEYS).chain(AFTER_MODELS)
}

static BEFORE_MODELS: &[Key] = &[
    key(
        "server.listen",
        ValueType::Address,
        Fixed("\"127.0.0.1:5052\""),
        "GitLab's \"Local AI Gateway URL\". 0.0.0.0 for every interface",
    ),
    key(
        "server.workers",
        ValueType::Integer(1, 1024),
        Example("2", "one per core"),
        "threads that serve requests",
    ),
    key(
        "server.tls.cert",
        ValueType::String(PEM),
        Example("\"tls.crt\"", "plain HTTP"),
        "HTTPS on the listener: the certificate, then its chain. Read again when it changes",
    ),
    key(
        "server.tls.key",
        ValueType::String(PEM),
        Example("\"tls.key\"", "none; required with cert"),
        "its key, without a passphrase. Read again when it changes",
    ),
    key(
        "server.tls.client_ca",
        ValueType::String(PEM),
        Example("\"clients.crt\"", "clients need no certificate"),
        "clients must present a certificate of one of these authorities (mTLS)",
    ),
    key(
        "server.tls.client_crl",
        ValueType::String(PEM),
        Example("\"clients.crl\"", "revocation is not checked"),
        "the revoked client certificates (CRLs), a list of each authority in one file. Read again when it changes",
    ),
    key(
        "admin.listen",
        ValueType::Address,
        Fixed("\"127.0.0.1:8082\""),
        "/metrics /live /ready /status, never on the public listener",
    ),
    key(
        "agent_platform.listen",
        ValueType::Address,
        Example("\"0.0.0.0:50052\"", "no such listener"),
        "GitLab's \"Local URL for the Duo Agent Platform service\"",
    )
    .support(Support::NotYet),
    key(
        "gitlab.url",
        ValueType::String("a URL like \"https://gitlab.example.com\""),
        Example("\"https://gitlab.example.com\"", "none"),
        "the GitLab whose tokens are accepted; its keys are fetched from /.well-known/openid-configuration there",
    ),
    key(
        "gitlab.cloud_issuer",
        ValueType::String("a URL like \"https://customers.gitlab.com\""),
        Example("\"https://customers.gitlab.com\"", "none, and no keys are fetched from it"),
        "GitLab's licence server, whose tokens GitLab sends for features without a self-hosted model",
    ),
    key(
        "gitlab.audience",
        ValueType::String("a name like \"gitlab-ai-gateway\""),
        Fixed("\"gitlab-ai-gateway\""),
        "this service's name in a token's audience",
    ),
    key(
        "gitlab.cloud_url",
        ValueType::String("a URL like \"https://cloud.gitlab.com/ai\""),
        Fixed("\"https://cloud.gitlab.com/ai\""),
        "GitLab's cloud gateway: requests for features set to \"gitlab\" are forwarded to it, with the caller's own token",
    ),
    key(
        "auth.mode",
        ValueType::Keyword(&["off", "keys", "gitlab"]),
        Example(
            "\"gitlab\"",
            "\"gitlab\" with gitlab.url, else \"keys\" with static_keys, else \"off\"",
        ),
        "who may call: everybody, clients with a key, or GitLab with its tokens and clients with a key",
    ),
    key(
        "auth.allow_public",
        ValueType::Bool,
        Fixed("false"),
        "whether \"off\" is accepted on an address that is not loopback",
    ),
    key(
        "auth.static_keys",
        ValueType::Secrets,
        Example(
            "[{ env = \"WEIR_CLIENT_KEY\", name = \"ci\", models = [\"codestral\"], requests_per_minute = 60, tokens_per_minute = 100000 }]",
            "none",
        ),
        "keys that a caller may present as a bearer token; what follows the key is optional: a name, the models of this file that it is for, rates that override those of [limits]",
    ),
    key(
        "auth.user_tokens.signing_key",
        ValueType::Secret,
        Example("{ env = \"SIGNING_KEY\" }", "one generated at start-up"),
        "signs the tokens that IDEs get for code completion: an RSA key in PEM, the same one in every replica",
    ),
    key(
        "auth.user_tokens.validation_key",
        ValueType::Secret,
        Example("{ env = \"PREVIOUS_KEY\" }", "none"),
        "a second key whose tokens are accepted: the previous one for an hour, or the next one before every replica signs with it",
    ),
];

static AFTER_MODELS: &[Key] = &[
    key("features.{feature}", ValueType::Choice, Example("\"codestral\"", "features.default"), ""),
    key(
        "features.{feature}.model",
        ValueType::String("a model's name"),
        Example("\"codestral\"", "none"),
        "the model, when the feature is a table",
    ),
    key(
        "features.{feature}.fallback",
        ValueType::Strings("an array of models' names"),
        Example("[\"gpt\"]", "none"),
        "models to try when this one fails before its first content, in this order",
    ),
    key(
        "features.{feature}.timeouts.connect",
        CONNECT,
        OF_TIMEOUTS,
        "timeouts of this feature; they override those of its model",
    ),
    key("features.{feature}.timeouts.first_byte", WAIT, OF_TIMEOUTS, ""),
    key("features.{feature}.timeouts.idle", WAIT, OF_TIMEOUTS, ""),
    key("features.{feature}.timeouts.total", TOTAL, OF_TIMEOUTS, ""),
    key(
        "features.request_models",
        ValueType::Keyword(&["allow", "listed", "ignore"]),
        Fixed("\"allow\""),
        "a model that GitLab names in a request: use it always, only if its endpoint is in this file, or never",
    ),
    key(
        "features.request_loopback",
        ValueType::Bool,
        Fixed("false"),
        "whether such a model may be on a loopback address; link-local addresses are always refused",
    ),
    key(
        "docs.index",
        ValueType::String("a file that `weir docs index` wrote"),
        Example("\"gitlab-docs.index\"", "none: documentation search finds nothing"),
        "the documentation that GitLab's chat searches; read again with this file",
    ),
    key(
        "docs.base_url",
        ValueType::String("a URL like \"https://docs.gitlab.com\""),
        Fixed("\"https://docs.gitlab.com\""),
        "base of the links to its pages; \"https://gitlab.example.com/help\" for GitLab's own help",
    ),
    key(
        "prompts.dir",
        ValueType::String("a directory"),
        Example("\"prompts\"", "the built-in prompts"),
        "prompt files that replace or complement the built-in ones; `weir prompts show ID` prints one to start from",
    ),
    key("timeouts.connect", CONNECT, Fixed("\"2s\""), "DNS, TCP and TLS"),
    key(
        "timeouts.first_byte",
        WAIT,
        Fixed("\"60s\""),
        "from the request sent to the first byte of the response (GitLab's own default)",
    ),
    key("timeouts.idle", WAIT, Fixed("\"60s\""), "between two chunks of a stream"),
    key(
        "timeouts.total",
        TOTAL,
        Fixed("\"600s\""),
        "the whole request (GitLab's own maximum); code suggestions at most 50s",
    ),
    key(
        "timeouts.chat_surface",
        ValueType::Keyword(&["event", "answer"]),
        Fixed("\"event\""),
        "what Duo Chat's user sees when a timeout expires: GitLab's sentence for any failure, or A1000 as the answer",
    ),
    key(
        "chat.tools",
        ValueType::Keyword(&["auto", "native", "react"]),
        Fixed("\"auto\""),
        "how models call GitLab's tools: by their family, always as functions, or always as text",
    ),
    key(
        "chat.heartbeat",
        ValueType::Duration("10ms", "55s"),
        Fixed("\"15s\""),
        "interval of keep-alive blank lines in a silent stream of Duo Chat: GitLab, and proxies in front of it, give up after 60s",
    ),
    key(
        "limits.max_body",
        ValueType::Size("1KiB", "1GiB"),
        Fixed("\"64MiB\""),
        "a longer request body is refused with 413 before it is buffered",
    ),
    key(
        "limits.max_headers",
        ValueType::Size("8KiB", "1MiB"),
        Fixed("\"32KiB\""),
        "a longer request head is refused with 431",
    ),
    key(
        "limits.header_timeout",
        SHORT,
        Fixed("\"15s\""),
        "a connection is closed when its request's headers are not complete, or no further request begins, after this",
    ),
    key(
        "limits.body_timeout",
        WAIT,
        Fixed("\"60s\""),
        "a connection is closed when its request's body is not complete after this",
    ),
    key("limits.in_flight", COUNT, Fixed("4096"), "concurrent requests; further ones are queued"),
    key("limits.queue", ValueType::Integer(0, 1_000_000), Fixed("1024"), "length of that queue"),
    key(
        "limits.queue_wait",
        QUEUE_WAIT,
        Fixed("\"1s\""),
        "longest time in that queue, then 503 with Retry-After",
    ),
    key(
        "limits.connections_per_client",
        COUNT,
        Example("64", "no limit"),
        "open connections of one address; further ones are closed. Not for use behind a proxy, which is one address",
    ),
    key(
        "limits.requests_per_minute",
        ValueType::Integer(1, 1_000_000_000),
        Example("600", "no limit"),
        "requests of one caller (a GitLab with its users, a static key, else an address): as many in a burst, then at this rate; beyond it 429 with Retry-After",
    ),
    key(
        "limits.tokens_per_minute",
        ValueType::Integer(1, 1_000_000_000),
        Example("100000", "no limit"),
        "tokens of one caller, of prompts and answers: charged when an answer ends, so a caller may go into debt, which delays its next request",
    ),
    key(
        "limits.shared",
        ValueType::Secret,
        Example("\"redis://host:6379\"", "each process counts its own"),
        "a Redis (5 or later) or Valkey where several gateways count rates together; { env = \"REDIS_URL\" } if it has a password, rediss:// for TLS. While it cannot be reached each process counts its own",
    ),
    key(
        "tls.extra_ca",
        ValueType::Strings("an array of PEM files"),
        Fixed("[]"),
        "certificate authorities of every server that is called, in addition to the system's. Read again when they change",
    ),
    key(
        "tls.client_cert",
        ValueType::String(PEM),
        Example("\"client.crt\"", "none"),
        "the client certificate for model servers that request one, then its chain. Read again when it changes",
    ),
    key(
        "tls.client_key",
        ValueType::String(PEM),
        Example("\"client.key\"", "none; required with client_cert"),
        "its key, without a passphrase. Read again when it changes",
    ),
    key(
        "proxy.url",
        ValueType::String("a URL like \"http://proxy:3128\""),
        Example(
            "\"http://proxy:3128\"",
            "HTTPS_PROXY for https servers, HTTP_PROXY for http ones, else none",
        ),
        "every server is reached through a tunnel (CONNECT) of this proxy, except loopback and link-local addresses. \"none\": no proxy, and the variables are ignored",
    ),
    key(
        "proxy.credentials",
        ValueType::Secret,
        Example("{ env = \"PROXY_CREDENTIALS\" }", "those in the variable's URL"),
        "of the form user:password; sent to the proxy alone",
    ),
    key(
        "proxy.except",
        ValueType::Strings("an array like [\"internal.example.com\", \"10.0.0.0/8\"]"),
        Example("[\"internal.example.com\", \"10.0.0.0/8\"]", "NO_PROXY"),
        "servers that are reached without the proxy: a name and its subdomains, with a port or without, an address, a network, \"*\"",
    ),
    key(
        "resilience.retry_budget",
        ValueType::Number(0.0, 1.0),
        Fixed("0.2"),
        "retries to a model's replicas, as a share of its requests",
    ),
    key(
        "resilience.hedging.percentile",
        ValueType::Number(0.5, 0.999),
        Example("0.95", "no hedging"),
        "when the first content takes longer than this share of answers take, the request is sent to a second endpoint of the model as well",
    ),
    key(
        "resilience.hedging.budget",
        ValueType::Number(0.0, 1.0),
        Fixed("0.05"),
        "hedged requests, as a share of requests",
    ),
    key(
        "resilience.breaker.failures",
        COUNT,
        Fixed("5"),
        "consecutive failures that open a replica's circuit breaker",
    ),
    key(
        "resilience.breaker.error_rate",
        ValueType::Number(0.01, 1.0),
        Fixed("0.5"),
        "share of failures that opens it, of at least ten requests in 10s",
    ),
    key(
        "resilience.breaker.open",
        LONG,
        Fixed("\"5s\""),
        "how long it stays open; then one request probes the replica",
    ),
    key(
        "resilience.breaker.open_max",
        LONG,
        Fixed("\"60s\""),
        "each failed probe doubles that, up to this",
    ),
    key(
        "resilience.breaker.slow_start",
        LONG,
        Fixed("\"10s\""),
        "a replica that has recovered has its full share of requests after this",
    ),
    key(
        "resilience.health_check.every",
        SHORT,
        Fixed("\"10s\""),
        "interval between two checks (models.{name}.health_check)",
    ),
    key("resilience.health_check.timeout", SHORT, Fixed("\"2s\""), "timeout of one check"),
    key(
        "resilience.drain",
        ValueType::Duration("0s", "1h"),
        Fixed("\"25s\""),
        "how long answers in progress may take after SIGTERM, or after weir serve --replace; then they end with an error",
    ),
    key(
        "resilience.drain_delay",
        ValueType::Duration("0s", "5m"),
        Fixed("\"0s\""),
        "how long new connections are still accepted after SIGTERM, while /ready returns 503: a load balancer's \
         time to notice",
    ),
    key(
        "telemetry.level",
        ValueType::Keyword(&["error", "warn", "info", "debug", "trace"]),
        Fixed("\"info\""),
        "the operator's log, on standard error",
    ),
    key(
        "telemetry.format",
        ValueType::Keyword(&["json", "text"]),
        Example("\"json\"", "text on a terminal, json elsewhere"),
        "format of the operator's log",
    ),
    key(
        "telemetry.log_prompts",
        ValueType::Bool,
        Fixed("false"),
        "prompts and answers in the operator's log, at info, cut at 16 KiB and without what looks like a key: only of requests whose GitLab allows detailed logs",
    ),
    key(
        "telemetry.otlp",
        ValueType::String("a URL like \"http://collector:4318\""),
        Example("\"http://collector:4318\"", "none"),
        "where OpenTelemetry data is sent",
    )
    .support(Support::NotYet),
];
