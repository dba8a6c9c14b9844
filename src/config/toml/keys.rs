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
        "HTTPS on the listener: the certificate, then what it was signed with. Read again when it changes",
    ),
    key(
        "server.tls.key",
        ValueType::String(PEM),
        Example("\"tls.key\"", "none; must be said beside cert"),
        "its key, without a passphrase. Read again when it changes",
    ),
    key(
        "server.tls.client_ca",
        ValueType::String(PEM),
        Example("\"clients.crt\"", "clients need no certificate"),
        "clients must show a certificate of one of these authorities (mTLS)",
    ),
    key(
        "server.tls.client_crl",
        ValueType::String(PEM),
        Example("\"clients.crl\"", "none is looked at"),
        "of those the revoked ones (CRL), a list of every authority in one file. Read again when it changes",
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
        Example("\"https://customers.gitlab.com\"", "none, and nothing is asked of it"),
        "GitLab's licence server, whose tokens GitLab sends for features without a self-hosted model",
    ),
    key(
        "gitlab.audience",
        ValueType::String("a name like \"gitlab-ai-gateway\""),
        Fixed("\"gitlab-ai-gateway\""),
        "this service's name among those that a token is for",
    ),
    key(
        "gitlab.cloud_url",
        ValueType::String("a URL like \"https://cloud.gitlab.com/ai\""),
        Fixed("\"https://cloud.gitlab.com/ai\""),
        "GitLab's cloud gateway, where features set to \"gitlab\" go with the caller's own token",
    ),
    key(
        "auth.mode",
        ValueType::Keyword(&["off", "keys", "gitlab"]),
        Example(
            "\"gitlab\"",
            "\"gitlab\" with gitlab.url, else \"keys\" with static_keys, else \"off\"",
        ),
        "who may call: everybody, the holders of a key, or GitLab by its tokens and the holders of a key",
    ),
    key(
        "auth.allow_public",
        ValueType::Bool,
        Fixed("false"),
        "whether \"off\" may serve on an address that is not loopback",
    ),
    key(
        "auth.static_keys",
        ValueType::Secrets,
        Example(
            "[{ env = \"WEIR_CLIENT_KEY\", name = \"ci\", models = [\"codestral\"], requests_per_minute = 60, tokens_per_minute = 100000 }]",
            "none",
        ),
        "keys that a caller may present as a bearer token; what follows the key is optional: a name, the models of this file that it is for, rates over those of [limits]",
    ),
    key(
        "auth.user_tokens.signing_key",
        ValueType::Secret,
        Example("{ env = \"SIGNING_KEY\" }", "one made at start-up"),
        "signs the tokens that IDEs get for code completion: an RSA key in PEM, the same one in every replica",
    ),
    key(
        "auth.user_tokens.validation_key",
        ValueType::Secret,
        Example("{ env = \"PREVIOUS_KEY\" }", "none"),
        "a key whose tokens are good too: the previous one for an hour, or the next one before every replica signs with it",
    ),
];

static AFTER_MODELS: &[Key] = &[
    key("features.{feature}", ValueType::Choice, Example("\"codestral\"", "features.default"), ""),
    key(
        "features.{feature}.model",
        ValueType::String("a model's name"),
        Example("\"codestral\"", "none"),
        "the table form of a feature's line",
    ),
    key(
        "features.{feature}.fallback",
        ValueType::Strings("an array of models' names"),
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
        ValueType::Keyword(&["allow", "listed", "ignore"]),
        Fixed("\"allow\""),
        "a model that GitLab names in a request: use it, only if its endpoint is in this file, or never",
    ),
    key(
        "features.request_loopback",
        ValueType::Bool,
        Fixed("false"),
        "whether such a model may be on this machine; link-local addresses are always refused",
    ),
    key(
        "docs.index",
        ValueType::String("a file that `weir docs index` wrote"),
        Example("\"gitlab-docs.index\"", "none: documentation search finds nothing"),
        "what GitLab's chat finds in the documentation; read again with this file",
    ),
    key(
        "docs.base_url",
        ValueType::String("a URL like \"https://docs.gitlab.com\""),
        Fixed("\"https://docs.gitlab.com\""),
        "where the links to its pages lead; \"https://gitlab.example.com/help\" for GitLab's own help",
    ),
    key(
        "prompts.dir",
        ValueType::String("a directory"),
        Example("\"prompts\"", "the prompts in the program"),
        "prompt files that replace or join those in the program; `weir prompts show ID` prints one to begin with",
    ),
    key("timeouts.connect", CONNECT, Fixed("\"2s\""), "DNS, TCP and TLS"),
    key(
        "timeouts.first_byte",
        WAIT,
        Fixed("\"60s\""),
        "from the request sent to the first byte of the answer (GitLab's own default)",
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
        "what Duo Chat's user sees of an expired limit: GitLab's sentence for any failure, or A1000 as the answer",
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
        "a silence of Duo Chat's stream after which a blank line is sent: GitLab, and proxies before it, give up after 60s",
    ),
    key(
        "limits.max_body",
        ValueType::Size("1KiB", "1GiB"),
        Fixed("\"64MiB\""),
        "a longer request body is 413 before it is buffered",
    ),
    key(
        "limits.max_headers",
        ValueType::Size("8KiB", "1MiB"),
        Fixed("\"32KiB\""),
        "a longer request head is 431",
    ),
    key(
        "limits.header_timeout",
        SHORT,
        Fixed("\"15s\""),
        "a client that does not finish its headers, or sends nothing more on a connection that is kept, is let go",
    ),
    key(
        "limits.body_timeout",
        WAIT,
        Fixed("\"60s\""),
        "a client that does not finish its body is let go",
    ),
    key(
        "limits.in_flight",
        COUNT,
        Fixed("4096"),
        "requests being answered; beyond it they wait in",
    ),
    key(
        "limits.queue",
        ValueType::Integer(0, 1_000_000),
        Fixed("1024"),
        "a bounded queue, for at most",
    ),
    key("limits.queue_wait", QUEUE_WAIT, Fixed("\"1s\""), "then 503 with Retry-After"),
    key(
        "limits.connections_per_client",
        COUNT,
        Example("64", "no limit"),
        "open connections of one address; what is beyond is closed. Not behind a proxy, which is one address",
    ),
    key(
        "limits.requests_per_minute",
        ValueType::Integer(1, 1_000_000_000),
        Example("600", "no limit"),
        "requests of one caller (a GitLab with its users, a static key, else an address): at most as many at once, then evenly; 429 with Retry-After",
    ),
    key(
        "limits.tokens_per_minute",
        ValueType::Integer(1, 1_000_000_000),
        Example("100000", "no limit"),
        "tokens of one caller, read and written: charged when the answer ends, so that it may owe some, which its next request waits for",
    ),
    key(
        "limits.shared",
        ValueType::Secret,
        Example("\"redis://host:6379\"", "each process counts for itself"),
        "a Redis (5 or later) or Valkey where several gateways count rates together; { env = \"REDIS_URL\" } if it has a password, rediss:// for TLS. While it is away each counts for itself",
    ),
    key(
        "tls.extra_ca",
        ValueType::Strings("an array of PEM files"),
        Fixed("[]"),
        "certificate authorities of every server that is called, besides the system's. Read again when they change",
    ),
    key(
        "tls.client_cert",
        ValueType::String(PEM),
        Example("\"client.crt\"", "none"),
        "who we are to model servers that ask: the certificate, then what it was signed with. Read again when it changes",
    ),
    key(
        "tls.client_key",
        ValueType::String(PEM),
        Example("\"client.key\"", "none; must be said beside client_cert"),
        "its key, without a passphrase. Read again when it changes",
    ),
    key(
        "proxy.url",
        ValueType::String("a URL like \"http://proxy:3128\""),
        Example(
            "\"http://proxy:3128\"",
            "HTTPS_PROXY for https servers, HTTP_PROXY for http ones, else none",
        ),
        "every server is reached by a tunnel (CONNECT) of this proxy, but for this machine and link-local addresses. \"none\": whatever the variables say",
    ),
    key(
        "proxy.credentials",
        ValueType::Secret,
        Example("{ env = \"PROXY_CREDENTIALS\" }", "those in the variable's URL"),
        "of the form user:password; nobody but the proxy sees them",
    ),
    key(
        "proxy.except",
        ValueType::Strings("an array like [\"internal.example.com\", \"10.0.0.0/8\"]"),
        Example("[\"internal.example.com\", \"10.0.0.0/8\"]", "NO_PROXY"),
        "servers that are reached without it: a name and all below it, with a port or without, an address, a network, \"*\"",
    ),
    key(
        "resilience.retry_budget",
        ValueType::Number(0.0, 1.0),
        Fixed("0.2"),
        "extra requests to a model's replicas, as a share of requests",
    ),
    key(
        "resilience.hedging.percentile",
        ValueType::Number(0.5, 0.999),
        Example("0.95", "no hedging"),
        "of a model with several endpoints a second one is asked, too, when the first content takes longer than for this share of answers",
    ),
    key(
        "resilience.hedging.budget",
        ValueType::Number(0.0, 1.0),
        Fixed("0.05"),
        "second requests, as a share of requests",
    ),
    key(
        "resilience.breaker.failures",
        COUNT,
        Fixed("5"),
        "so many failures in a row pass a replica over",
    ),
    key(
        "resilience.breaker.error_rate",
        ValueType::Number(0.01, 1.0),
        Fixed("0.5"),
        "so does this share of ten and more in 10s",
    ),
    key(
        "resilience.breaker.open",
        LONG,
        Fixed("\"5s\""),
        "for so long; then one request sees whether it is back",
    ),
    key(
        "resilience.breaker.open_max",
        LONG,
        Fixed("\"60s\""),
        "doubles each time it is not, up to this",
    ),
    key(
        "resilience.breaker.slow_start",
        LONG,
        Fixed("\"10s\""),
        "one that is back has its whole share after this",
    ),
    key(
        "resilience.health_check.every",
        SHORT,
        Fixed("\"10s\""),
        "between two checks (models.{name}.health_check)",
    ),
    key("resilience.health_check.timeout", SHORT, Fixed("\"2s\""), "how long one may take"),
    key(
        "resilience.drain",
        ValueType::Duration("0s", "1h"),
        Fixed("\"25s\""),
        "how long answers may go on after SIGTERM, or after weir serve --replace; then they end with an error",
    ),
    key(
        "resilience.drain_delay",
        ValueType::Duration("0s", "5m"),
        Fixed("\"0s\""),
        "how long new connections are still taken after SIGTERM, when /ready says 503 already: a load balancer's \
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
        "how it is written",
    ),
    key(
        "telemetry.log_prompts",
        ValueType::Bool,
        Fixed("false"),
        "prompts and answers in the operator's log, at info, cut at 16 KiB and without what looks like a key: of requests whose GitLab allows detailed logs, and of no others",
    ),
    key(
        "telemetry.otlp",
        ValueType::String("a URL like \"http://collector:4318\""),
        Example("\"http://collector:4318\"", "none"),
        "where OpenTelemetry goes",
    )
    .support(Support::NotYet),
];
