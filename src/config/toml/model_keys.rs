//! The keys of `[models]` and `[families]`.

use crate::config::toml::key::{
    CONNECT, DefaultValue, Key, OF_TIMEOUTS, PEM, QUEUE_WAIT, Support, TOTAL, ValueType, WAIT, key,
};
use DefaultValue::{Example, Fixed};

/// Creates a key of Bedrock models.
const fn bedrock(
    path: &'static str,
    value_type: ValueType,
    default: DefaultValue,
    doc: &'static str,
) -> Key {
    key(path, value_type, default, doc).support(BEDROCK)
}

/// Creates a key of OpenAI-compatible servers' models.
const fn openai(
    path: &'static str,
    value_type: ValueType,
    default: DefaultValue,
    doc: &'static str,
) -> Key {
    key(path, value_type, default, doc).support(OPENAI)
}

/// Creates a key of Azure models.
const fn azure(
    path: &'static str,
    value_type: ValueType,
    default: DefaultValue,
    doc: &'static str,
) -> Key {
    key(path, value_type, default, doc).support(AZURE)
}

const URL: &str = "a URL like \"http://host:port/v1\"";
const TOKENS: ValueType = ValueType::Integer(1, 100_000_000);
const ENDPOINT: ValueType = ValueType::Keyword(&["completions", "chat"]);
const LIKE: &str = "that of the family it is like";
const BEDROCK: Support = Support::Only(&["bedrock"]);
const OPENAI: Support = Support::Only(&["openai"]);
const AZURE: Support = Support::Only(&["azure"]);

/// The keys, in the order of `config/reference.toml`.
pub(crate) static KEYS: &[Key] = &[
    key(
        "models.{name}.identifier",
        ValueType::String("a string"),
        Example("\"custom_openai/Codestral-22B-v0.1\"", "the name, of an OpenAI-compatible server"),
        "the model's name on its server; the prefix is the kind of server",
    ),
    key(
        "models.{name}.family",
        ValueType::String("a string"),
        Example("\"codestral\"", "\"general\""),
        "GitLab's model family: how the model is prompted",
    ),
    key(
        "models.{name}.endpoint",
        ValueType::String(URL),
        Example("\"http://gpu-1:8000/v1\"", "none; this or endpoints"),
        "the model server's address. Bedrock: default AWS_BEDROCK_RUNTIME_ENDPOINT, else the region's public one. Anthropic: default https://api.anthropic.com",
    ),
    key(
        "models.{name}.endpoints",
        ValueType::Strings("an array of URLs like [\"http://host:port/v1\"]"),
        Example("[\"http://gpu-1:8000/v1\", \"http://gpu-2:8000/v1\"]", "none; this or endpoint"),
        "addresses of its replicas",
    ),
    key(
        "models.{name}.api_key",
        ValueType::Secret,
        Example("{ env = \"VLLM_API_KEY\" }", "none"),
        "the model server's key; or { file = \"/run/secrets/x\" }. Azure: one of the resource's keys. Bedrock: an API key",
    ),
    key(
        "models.{name}.context_tokens",
        TOKENS,
        Example("16384", "its family's"),
        "the model's context window, prompt and answer together: vLLM's --max-model-len",
    ),
    key(
        "models.{name}.completion_endpoint",
        ENDPOINT,
        Example("\"chat\"", "its family's"),
        "which API completes code: see [families]",
    )
    .support(Support::Only(&["openai", "azure"])),
    openai(
        "models.{name}.health_check",
        ValueType::String("a path like \"/health\", or \"off\""),
        Example("\"/health\"", "the list of models when there are several endpoints, else \"off\""),
        "path below the server's root that is requested from each endpoint; any status but 5xx is healthy",
    ),
    openai(
        "models.{name}.load",
        ValueType::Keyword(&["vllm"]),
        Example("\"vllm\"", "Weir counts its own requests"),
        "read each endpoint's load from /metrics, twice a second: requests of other gateways count, too",
    ),
    openai(
        "models.{name}.affinity",
        ValueType::Bool,
        Fixed("false"),
        "whether requests with the same prefix go to the same endpoint, whose prompt cache has it, unless that is much busier than others",
    ),
    key(
        "models.{name}.timeouts.connect",
        CONNECT,
        OF_TIMEOUTS,
        "timeouts of this model; they override those of [timeouts]",
    ),
    key("models.{name}.timeouts.first_byte", WAIT, OF_TIMEOUTS, ""),
    key("models.{name}.timeouts.idle", WAIT, OF_TIMEOUTS, ""),
    key("models.{name}.timeouts.total", TOTAL, OF_TIMEOUTS, ""),
    key(
        "models.{name}.tls.extra_ca",
        ValueType::Strings("an array of PEM files"),
        Example("[\"authority.crt\"]", "those of [tls], which apply in addition"),
        "TLS with this model's servers alone",
    ),
    key(
        "models.{name}.tls.client_cert",
        ValueType::String(PEM),
        Example("\"client.crt\"", "that of [tls]"),
        "",
    ),
    key(
        "models.{name}.tls.client_key",
        ValueType::String(PEM),
        Example("\"client.key\"", "that of [tls]"),
        "",
    ),
    key(
        "models.{name}.max_parallel",
        ValueType::Integer(1, 1_000_000),
        Example("16", "no limit"),
        "concurrent requests to this model, until their answers end",
    ),
    key(
        "models.{name}.max_queue",
        ValueType::Integer(0, 1_000_000),
        Example("64", "limits.queue"),
        "length of the queue for it: completions before chat before background jobs",
    ),
    key(
        "models.{name}.max_wait",
        QUEUE_WAIT,
        Example("\"2s\"", "limits.queue_wait"),
        "longest time in that queue, then 503 with Retry-After",
    ),
    openai(
        "models.{name}.priority",
        ValueType::Bool,
        Fixed("false"),
        "whether the same order is sent to the server as `priority`: 0 for completions, 1 for chat, 2 for background jobs. For vLLM with --scheduling-policy priority",
    ),
    bedrock(
        "models.{name}.region",
        ValueType::String("a region like \"eu-central-1\""),
        Example("\"ap-northeast-1\"", "the identifier's, else AWS_REGION, else AWS_REGION_NAME"),
        "Bedrock: the model's region",
    ),
    bedrock(
        "models.{name}.signing_host",
        ValueType::String("a host like \"bedrock-runtime.eu-central-1.amazonaws.com\""),
        Example("\"bedrock-runtime.ap-northeast-1.amazonaws.com\"", "the endpoint's"),
        "Bedrock: the host to send and sign when the endpoint is a proxy in front of it",
    ),
    bedrock(
        "models.{name}.access_key_id",
        ValueType::Secret,
        Example(
            "{ env = \"TEAM_KEY_ID\" }",
            "AWS_BEARER_TOKEN_BEDROCK, else AWS_ACCESS_KEY_ID, else AWS's credential chain",
        ),
        "Bedrock: credentials of this model. api_key takes a Bedrock API key instead",
    ),
    bedrock(
        "models.{name}.secret_access_key",
        ValueType::Secret,
        Example("{ env = \"TEAM_SECRET\" }", "none"),
        "",
    ),
    bedrock(
        "models.{name}.session_token",
        ValueType::Secret,
        Example("{ env = \"TEAM_TOKEN\" }", "none"),
        "With a temporary access key",
    ),
    bedrock(
        "models.{name}.guardrail.identifier",
        ValueType::String("a guardrail's id or ARN"),
        Example("\"abc123\"", "AIGW_BEDROCK_GUARDRAIL_CONFIG"),
        "Bedrock: a guardrail for every request",
    ),
    bedrock(
        "models.{name}.guardrail.version",
        ValueType::String("\"DRAFT\" or a number as a string"),
        Example("\"1\"", "none: AWS's choice"),
        "",
    ),
    bedrock(
        "models.{name}.guardrail.trace",
        ValueType::Keyword(&["enabled", "disabled", "enabled_full"]),
        Example("\"enabled\"", "AWS's, \"disabled\""),
        "",
    ),
    bedrock(
        "models.{name}.bedrock_openai",
        ValueType::Bool,
        Example("true", "false: Converse, which more models support"),
        "Bedrock: use its OpenAI-compatible endpoint, without translation",
    ),
    azure(
        "models.{name}.api_version",
        ValueType::String("v1, preview or a date like \"2025-02-01-preview\""),
        Example("\"2025-02-01-preview\"", "AZURE_API_VERSION, else \"v1\""),
        "Azure: the API's version",
    ),
    azure(
        "models.{name}.entra.identity",
        ValueType::Keyword(&["application", "workload", "managed"]),
        Example(
            "\"managed\"",
            "by what else is set here, else by AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE or IDENTITY_ENDPOINT",
        ),
        "Azure: Entra ID instead of a key, as an application by its secret, as the cluster's or the machine's identity",
    ),
    azure(
        "models.{name}.entra.tenant",
        ValueType::String("a tenant's id"),
        Example("\"…\"", "AZURE_TENANT_ID"),
        "",
    ),
    azure(
        "models.{name}.entra.client_id",
        ValueType::String("a client id"),
        Example("\"…\"", "AZURE_CLIENT_ID"),
        "",
    ),
    azure(
        "models.{name}.entra.client_secret",
        ValueType::Secret,
        Example("{ env = \"SECRET\" }", "AZURE_CLIENT_SECRET"),
        "",
    ),
    azure(
        "models.{name}.entra.token_file",
        ValueType::String("a file's path"),
        Example(
            "\"/var/run/secrets/azure/tokens/azure-identity-token\"",
            "AZURE_FEDERATED_TOKEN_FILE",
        ),
        "the cluster's token, read again each time",
    ),
    azure(
        "models.{name}.entra.authority",
        ValueType::String("a URL like \"https://login.microsoftonline.com\""),
        Fixed("\"https://login.microsoftonline.com\""),
        "where tokens are issued; AZURE_AUTHORITY_HOST",
    ),
    azure(
        "models.{name}.entra.scope",
        ValueType::String("a scope like \"https://cognitiveservices.azure.com/.default\""),
        Example(
            "\"https://cognitiveservices.azure.com/.default\"",
            "that with a dated api_version, else \"https://ai.azure.com/.default\"",
        ),
        "scope of the token",
    ),
    key(
        "families.{name}.like",
        ValueType::String("the name of a built-in family"),
        Example("\"codestral\"", "itself if it is built in, else \"general\""),
        "the family that this one is like except for the keys here. config/families.toml has the built-in ones",
    ),
    key(
        "families.{name}.completion",
        ValueType::Keyword(&["fim", "chat"]),
        Example("\"fim\"", LIKE),
        "how code is completed: with the FIM tokens of fim.template, or by an instruction to a chat model",
    ),
    key(
        "families.{name}.completion_endpoint",
        ENDPOINT,
        Example(
            "\"completions\"",
            "\"completions\" for \"fim\" on OpenAI-compatible servers, else \"chat\"",
        ),
        "which API of the server that is: without the chat template, or with it",
    ),
    key(
        "families.{name}.fim.template",
        ValueType::String("a text with {prefix} and {suffix}"),
        Example("\"[SUFFIX]{suffix}[PREFIX]{prefix}\"", LIKE),
        "the model's FIM tokens. Without the beginning-of-text token, which the server adds",
    ),
    key(
        "families.{name}.fim.stop",
        ValueType::Strings("an array of texts"),
        Example("[\"[PREFIX]\", \"[SUFFIX]\"]", LIKE),
        "texts that end a completion",
    ),
    key(
        "families.{name}.context_tokens",
        TOKENS,
        Example("32768", LIKE),
        "the context window, prompt and answer together",
    ),
    key(
        "families.{name}.completion_tokens",
        TOKENS,
        Example("128", LIKE),
        "most tokens of a code completion",
    ),
    key(
        "families.{name}.generation_tokens",
        TOKENS,
        Example("2048", LIKE),
        "most tokens of a code generation",
    ),
    key(
        "families.{name}.max_tokens",
        TOKENS,
        Example("4096", LIKE),
        "most tokens of other answers",
    ),
    key(
        "families.{name}.temperature",
        ValueType::Number(0.0, 2.0),
        Example("0.0", LIKE),
        "0 is greedy",
    ),
    key(
        "families.{name}.strip_reasoning",
        ValueType::Bool,
        Example("true", LIKE),
        "whether <think> blocks are removed from its answers; in Duo Chat they always are",
    ),
    key(
        "families.{name}.single_system",
        ValueType::Bool,
        Example("true", LIKE),
        "whether system messages are merged into one, for chat templates that accept no second",
    ),
    key(
        "families.{name}.tools",
        ValueType::Keyword(&["native", "react"]),
        Example("\"native\"", LIKE),
        "how chat passes it tools: by the server's tool calling, or in the text",
    ),
    key(
        "families.{name}.prompts",
        ValueType::Strings("an array of folders of prompts"),
        Example("[\"codestral\", \"mistral\"]", LIKE),
        "folders of its prompts, in the order of search before \"base\"",
    ),
    key(
        "families.{name}.unescape_underscores",
        ValueType::Bool,
        Example("false", LIKE),
        "whether it writes \\_ where code has _",
    ),
];

#[cfg(test)]
mod tests {
    use super::KEYS;
    use crate::config::toml::key::Support;
    use crate::model::ProviderKind;

    #[test]
    fn keys_of_some_providers_name_labels_that_exist() {
        let known = ProviderKind::ALL.map(ProviderKind::label);
        let named = KEYS.iter().filter_map(|key| match key.support {
            Support::Only(labels) => Some(labels),
            Support::Full | Support::NotYet => None,
        });
        let unknown = named.flatten().find(|label| !known.contains(label));
        assert_eq!(unknown, None);
    }
}
