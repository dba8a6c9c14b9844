//! Translations as files (`tests/golden/`): how each dialect encodes a request, and what its
//! responses decode to. A change shows as a diff. `WEIR_BLESS=1 cargo test --test gateway golden`
//! writes them anew; read the diff before committing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use weir::generation::{
    Delta, Format, Generation, Image, Message, Part, Role, Sampling, Tool, ToolCall, ToolChoice,
};
use weir::model::{
    Access, AwsCredentials, AwsKeys, AzureAccess, BedrockAccess, EndpointUrl, Model, ProviderKind,
    Region, TimeoutsPatch,
};
use weir::provider::{Decode, dialect};
use weir::secret::Secret;

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares with the file, or writes it with `WEIR_BLESS`.
pub(crate) fn golden(path: &Path, actual: &str) {
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} is not what it was:\n{actual}\nWEIR_BLESS=1 writes it anew",
        path.display()
    );
}

fn model(provider: ProviderKind) -> Model {
    let keys = AwsKeys {
        access_key_id: "AKID".into(),
        secret_access_key: Secret::new("s".to_owned()),
        session_token: None,
    };
    let bedrock = BedrockAccess {
        region: Region::parse("eu-central-1").unwrap(),
        credentials: Arc::new(AwsCredentials::Keys(keys)),
        signing_host: None,
        guardrail: None,
    };
    let access = match provider {
        ProviderKind::Azure => Access::Azure(AzureAccess::default()),
        ProviderKind::Bedrock | ProviderKind::BedrockOpenAi => Access::Bedrock(Box::new(bedrock)),
        ProviderKind::OpenAi | ProviderKind::Anthropic | ProviderKind::Gitlab => Access::Key,
    };
    Model {
        id: "m".into(),
        provider,
        upstream_name: "the-model".into(),
        family: std::sync::Arc::default(),
        endpoints: vec![EndpointUrl::parse("http://h/v1").unwrap()],
        api_key: None,
        access,
        timeouts: TimeoutsPatch::default(),
        replicas: weir::model::ReplicaSettings::default(),
        concurrency: None,
        priority: false,
        from_request: false,
    }
}

const SPOKEN: [ProviderKind; 4] =
    [ProviderKind::OpenAi, ProviderKind::Azure, ProviderKind::Bedrock, ProviderKind::Anthropic];

fn chat() -> Generation {
    Generation {
        messages: vec![
            Message::text(Role::System, "Be brief."),
            Message::text(Role::User, "Say \"hé\" 😀\n"),
        ],
        sampling: Sampling {
            max_tokens: Some(64),
            temperature: Some(0.2),
            top_p: Some(0.9),
            ..Sampling::default()
        },
        stream: true,
        ..Generation::default()
    }
}

/// Returns every kind of message and setting that all dialects support.
fn tools() -> Generation {
    let call = |id: &str, arguments: &str| {
        Part::ToolCall(ToolCall {
            id: id.into(),
            name: "get_issue".into(),
            arguments: arguments.into(),
        })
    };
    let result = |id: &str, content: &str| Message {
        role: Role::Tool,
        parts: vec![Part::ToolResult { id: id.into(), content: content.into(), is_error: false }],
    };
    let picture = Part::Image(Image::Inline {
        media_type: "image/png".into(),
        base64: "iVBORw0KGgo=".into(),
    });
    Generation {
        messages: vec![
            Message::text(Role::User, "Compare #1 and #2"),
            Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Text("Looking.".into()),
                    call("call_1", "{\"id\":1}"),
                    call("call_2", ""),
                ],
            },
            result("call_1", "open"),
            result("call_2", ""),
            Message { role: Role::User, parts: vec![Part::Text("And this?".into()), picture] },
        ],
        tools: vec![Tool {
            strict: None,
            name: "get_issue".into(),
            description: "Reads an issue".into(),
            parameters: json!({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}),
        }],
        tool_choice: ToolChoice::Required,
        sampling: Sampling {
            max_tokens: Some(64),
            stop: vec!["END".into()],
            ..Sampling::default()
        },
        ..Generation::default()
    }
}

/// Returns what not every dialect supports: a refusal is part of the contract too.
fn extras() -> Generation {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    Generation {
        messages: vec![Message::text(Role::User, "Answer as JSON")],
        format: Format::JsonSchema {
            name: "answer".into(),
            description: None,
            schema,
            strict: Some(true),
        },
        sampling: Sampling { max_tokens: Some(64), seed: Some(7), ..Sampling::default() },
        ..Generation::default()
    }
}

fn encoded(provider: ProviderKind, generation: &Generation) -> String {
    let outbound = match dialect(provider).encode(generation, &model(provider)) {
        Ok(outbound) => outbound,
        Err(refused) => return format!("refused: {:?}: {}\n", refused.kind(), refused.public()),
    };
    let body: Value = serde_json::from_slice(&outbound.body.to_bytes()).unwrap();
    format!("POST {}\n{}\n", outbound.path, serde_json::to_string_pretty(&body).unwrap())
}

#[test]
fn requests() {
    for (name, generation) in [("chat", chat()), ("tools", tools()), ("extras", extras())] {
        for provider in SPOKEN {
            let path = folder("requests").join(format!("{name}.{}.snap", provider.label()));
            golden(&path, &encoded(provider, &generation));
        }
    }
}

/// Returns one line per delta, then how the stream ended.
fn decoded(provider: ProviderKind, chunks: impl Iterator<Item = Bytes>) -> String {
    let mut decoder = dialect(provider).stream_decoder(&Generation::default());
    let mut deltas: Vec<Delta> = Vec::new();
    let fed = chunks.into_iter().try_for_each(|chunk| decoder.feed(chunk, &mut deltas));
    let ended = fed.and_then(|()| Decode::finish(&mut *decoder, &mut deltas));
    let mut text: String = deltas.iter().map(|delta| format!("{delta:?}\n")).collect();
    text.push_str(&match ended {
        Ok(()) => "complete\n".to_owned(),
        Err(error) => format!("failed: {:?}: {}\n", error.kind(), error.public()),
    });
    text
}

/// `streams/<name>.<dialect>.{sse,bin}`, as recorded; read whole and byte by byte.
#[test]
fn streams() {
    let mut count = 0;
    for entry in fs::read_dir(folder("streams")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let provider = match name.split('.').nth(1) {
            _ if path.extension().is_some_and(|extension| extension == "snap") => continue,
            Some("openai") => ProviderKind::OpenAi,
            Some("azure") => ProviderKind::Azure,
            Some("bedrock") => ProviderKind::Bedrock,
            Some("anthropic") => ProviderKind::Anthropic,
            other => panic!("{name}: which dialect is {other:?}?"),
        };
        let bytes = fs::read(&path).unwrap();
        let whole = decoded(provider, std::iter::once(Bytes::from(bytes.clone())));
        let drips = decoded(provider, bytes.chunks(1).map(Bytes::copy_from_slice));
        assert_eq!(whole, drips, "{name} reads differently when it arrives byte by byte");
        golden(&path.with_extension("snap"), &whole);
        count += 1;
    }
    assert!(count >= 8, "the recordings are gone");
}
