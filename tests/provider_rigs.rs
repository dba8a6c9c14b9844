//! The dialects against real peers: `../shared/rigs/bedrock` (botocore recomputes every signature
//! and validates every body) and `../shared/rigs/azure`. Ignored without them:
//!
//! ```text
//! $PY bedrock/bedrock_verify.py --port 9201; $PY azure/azure_fake.py --port 9301
//! WEIR_RIG_BEDROCK=127.0.0.1:9201 WEIR_RIG_AZURE=127.0.0.1:9301 cargo test --test provider_rigs -- --ignored
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's own functions fail the test they are called from"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use weir::error::{GatewayError, Kind, RetryScope};
use weir::generation::{
    CacheTtl, Delta, Format, Generation, Image, Message, Part, Role, Sampling, StopReason, Tool,
    ToolCall, ToolChoice,
};
use weir::model::{
    Access, ApiVersion, AwsCredentials, AwsKeys, AzureAccess, BedrockAccess, EndpointUrl, Model,
    ProviderKind, Region, TimeoutsPatch,
};
use weir::provider::{Dialect, Outbound, SigningContext, dialect};
use weir::secret::Secret;

/// `None` when the rig is not there: the ignored test then says so and fails.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own switch, not the program's configuration"
)]
fn rig(name: &str) -> EndpointUrl {
    let address =
        std::env::var(name).unwrap_or_else(|_| panic!("set {name} to the rig's host:port"));
    EndpointUrl::parse(&format!("http://{address}")).unwrap()
}

fn model(provider: ProviderKind, name: &str, endpoint: &EndpointUrl, access: Access) -> Model {
    Model {
        id: "m".into(),
        provider,
        upstream_name: name.into(),
        family: std::sync::Arc::default(),
        endpoints: vec![endpoint.clone()],
        api_key: Some(Secret::new("azure-key-TEST".to_owned())),
        access,
        timeouts: TimeoutsPatch::default(),
        replicas: weir::model::ReplicaSettings::default(),
        concurrency: None,
        priority: false,
        from_request: false,
    }
}

fn keys(id: &str, secret: &str, token: Option<&str>) -> AwsCredentials {
    AwsCredentials::Keys(AwsKeys {
        access_key_id: id.into(),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
    })
}

fn good_keys() -> AwsCredentials {
    keys("AKIDEXAMPLE", "secretEXAMPLE", None)
}

fn bedrock(name: &str, credentials: AwsCredentials) -> Model {
    let access = BedrockAccess {
        region: Region::parse("eu-central-1").unwrap(),
        credentials: Arc::new(credentials),
        signing_host: None,
        guardrail: None,
    };
    model(ProviderKind::Bedrock, name, &rig("WEIR_RIG_BEDROCK"), Access::Bedrock(Box::new(access)))
}

fn received(stream: bool) -> Generation {
    Generation {
        messages: vec![Message::text(Role::System, "brief"), Message::text(Role::User, "hé")],
        sampling: Sampling { max_tokens: Some(50), temperature: Some(0.0), ..Sampling::default() },
        stream,
        ..Generation::default()
    }
}

/// Everything a request can hold, for the body validator.
fn called_everything(stream: bool) -> Generation {
    let call = Part::ToolCall(ToolCall {
        id: "call 1".into(),
        name: "get.weather".into(),
        arguments: String::new(),
    });
    let picture = Part::Image(Image::Inline {
        media_type: "image/png".into(),
        base64: "iVBORw0KGgo=".into(),
    });
    let schema = serde_json::json!({"type": "object"});
    let mut received = received(stream);
    received.messages[0].parts.push(Part::CachePoint { ttl: Some("1h".into()) });
    received
        .messages
        .push(Message { role: Role::Assistant, parts: vec![Part::Text("ok".into()), call] });
    received.messages.push(Message {
        role: Role::Tool,
        parts: vec![Part::ToolResult {
            id: "call 1".into(),
            content: String::new(),
            is_error: true,
        }],
    });
    received.messages.push(Message {
        role: Role::User,
        parts: vec![Part::Text(" ".into()), picture, Part::CachePoint { ttl: None }],
    });
    received.tools = vec![Tool {
        name: "get.weather".into(),
        description: "d".into(),
        parameters: schema.clone(),
        strict: None,
    }];
    received.tools_cache_ttl = Some(CacheTtl(Some("5m".into())));
    received.tool_choice = ToolChoice::Required;
    received.format = Format::JsonSchema {
        name: "n".into(),
        description: Some("d".into()),
        schema,
        strict: None,
    };
    received.effort = Some("low".into());
    received.sampling.stop = vec!["END".into()];
    received
}

/// One request on one connection, as bytes: the answer's status, headers, and body without its
/// chunking.
fn post(endpoint: &EndpointUrl, outbound: &Outbound) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut socket = TcpStream::connect(endpoint.authority().as_str()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head =
        format!("POST {}{} HTTP/1.1\r\nconnection: close\r\n", endpoint.base_path(), outbound.path)
            .into_bytes();
    if !outbound.headers.contains_key("host") {
        head.extend_from_slice(format!("host: {}\r\n", endpoint.authority()).as_bytes());
    }
    head.extend_from_slice(format!("content-length: {}\r\n", outbound.body.len()).as_bytes());
    for (name, value) in &outbound.headers {
        head.extend_from_slice(
            &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat(),
        );
    }
    head.extend_from_slice(b"\r\n");
    socket.write_all(&head).unwrap();
    socket.write_all(&outbound.body.to_bytes()).unwrap();
    let mut raw = Vec::new();
    socket.read_to_end(&mut raw).unwrap();
    let split = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(raw[..split].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status: StatusCode = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers.insert(http::HeaderName::try_from(name).unwrap(), value.trim().parse().unwrap());
    }
    let body = &raw[split + 4..];
    let body =
        if headers.contains_key("transfer-encoding") { dechunked(body) } else { body.to_vec() };
    (status, headers, body)
}

/// Ends quietly where the body was cut, as a client sees it.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let data = &rest[end + 2..];
        if size == 0 || data.len() < size {
            break;
        }
        out.extend_from_slice(&data[..size]);
        rest = &data[size + 2..];
    }
    out
}

fn signed(model: &Model, received: &Generation) -> (&'static dyn Dialect, Outbound) {
    let dialect = dialect(model.provider);
    let mut outbound = dialect.encode(received, model).unwrap();
    let attempt = SigningContext { endpoint: &model.endpoints[0], now: SystemTime::now() };
    dialect.authorize(&mut outbound, model, &attempt).unwrap();
    (dialect, outbound)
}

fn ask(model: &Model, received: &Generation) -> Result<Vec<Delta>, GatewayError> {
    let (dialect, outbound) = signed(model, received);
    answer(dialect, received, &post(&model.endpoints[0], &outbound))
}

fn answer(
    dialect: &dyn Dialect,
    received: &Generation,
    (status, headers, body): &(StatusCode, HeaderMap, Vec<u8>),
) -> Result<Vec<Delta>, GatewayError> {
    if !status.is_success() {
        return Err(dialect.error_from_response(*status, headers, &Bytes::copy_from_slice(body)));
    }
    if !received.stream {
        return dialect.decode_response(received, body);
    }
    let (mut decoder, mut out) = (dialect.stream_decoder(received), Vec::new());
    for chunk in body.chunks(13) {
        decoder.feed(Bytes::copy_from_slice(chunk), &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

fn text(deltas: &[Delta]) -> String {
    let text = deltas
        .iter()
        .filter_map(|delta| if let Delta::Text(text) = delta { Some(text.as_str()) } else { None });
    text.collect()
}

fn arguments(deltas: &[Delta]) -> String {
    let pieces = deltas.iter().filter_map(|d| {
        if let Delta::ToolCall { arguments, .. } = d { Some(arguments.as_str()) } else { None }
    });
    pieces.collect()
}

#[test]
#[ignore = "needs ../shared/rigs/bedrock"]
fn bedrock_takes_our_signatures_and_bodies() {
    let arn =
        "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2c3d4e5f6";
    for name in ["eu.amazon.nova-micro-v1:0", arn, "eu.anthropic.split-v1:0"] {
        for credentials in [
            good_keys(),
            keys("ASIATEMP", "secretTEMP", Some("tokenTEMP")),
            AwsCredentials::ApiKey(Secret::new("bedrock-api-key-TEST".to_owned())),
        ] {
            let model = bedrock(name, credentials);
            for received in
                [received(false), received(true), called_everything(false), called_everything(true)]
            {
                let out =
                    ask(&model, &received).unwrap_or_else(|error| panic!("{name}: {error:?}"));
                assert_eq!(text(&out), "word0 word1 word2 word3 word4 ", "{name}");
                assert!(out.contains(&Delta::Stop(StopReason::End)));
                assert!(
                    matches!(out.last(), Some(Delta::Usage(usage)) if usage.output == 5 && usage.cached == 3)
                );
            }
        }
    }
    for stream in [false, true] {
        let out = ask(&bedrock("eu.tool-v1:0", good_keys()), &received(stream)).unwrap();
        let arguments: serde_json::Value = serde_json::from_str(&arguments(&out)).unwrap();
        assert_eq!(arguments, serde_json::json!({"city": "Paris"}));
        assert!(out.contains(&Delta::Stop(StopReason::ToolCalls)));
    }
}

#[test]
#[ignore = "needs ../shared/rigs/bedrock started with --region eu-central-1"]
fn bedrock_refuses_what_was_not_signed_so() {
    let operator = |result: Result<Vec<Delta>, GatewayError>| {
        let error = result.unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        (error.kind(), error.operator().unwrap().to_owned())
    };
    let forbidden = Kind::UpstreamStatus(403);
    let wrong = |credentials| operator(ask(&bedrock("m", credentials), &received(false)));
    let (kind, text) = wrong(keys("AKIDEXAMPLE", "canary", None));
    assert!(kind == forbidden && text.starts_with("AWS refused the signature"), "{text}");
    let (kind, text) = wrong(keys("AKIDNOBODY", "canary", None));
    assert!(kind == forbidden && text.starts_with("AWS does not know the access key"), "{text}");
    let (kind, text) = wrong(keys("ASIATEMP", "secretTEMP", Some("canary")));
    assert!(kind == forbidden && text.contains("AWS_SESSION_TOKEN"), "{text}");
    let (kind, text) = wrong(AwsCredentials::ApiKey(Secret::new("canary".to_owned())));
    assert!(kind == forbidden && text.contains("AWS_BEARER_TOKEN_BEDROCK"), "{text}");

    let mut elsewhere = bedrock("m", good_keys());
    let Access::Bedrock(access) = &mut elsewhere.access else { unreachable!() };
    access.region = Region::parse("us-east-1").unwrap();
    let (kind, text) = operator(ask(&elsewhere, &received(false)));
    assert!(kind == forbidden && text.contains("another region"), "{text}");

    let model = bedrock("m", good_keys());
    let (dialect, mut outbound) = signed(&model, &received(false));
    let changed =
        String::from_utf8(outbound.body.to_bytes().to_vec()).unwrap().replace("brief", "grief");
    outbound.body = Bytes::from(changed).into();
    let (kind, text) =
        operator(answer(dialect, &received(false), &post(&model.endpoints[0], &outbound)));
    assert!(kind == forbidden && text.contains("changed the request"), "{text}");

    let (dialect, mut outbound) = signed(&model, &received(false));
    outbound.path = outbound.path.replace("/m/", "/n/").into();
    let (kind, _) =
        operator(answer(dialect, &received(false), &post(&model.endpoints[0], &outbound)));
    assert_eq!(kind, forbidden);
}

#[test]
#[ignore = "needs ../shared/rigs/bedrock"]
fn the_signature_of_bedrocks_openai_endpoint_verifies() {
    let mut model = bedrock("openai.gpt-oss-20b-1:0", good_keys());
    model.provider = ProviderKind::BedrockOpenAi;
    // the rig has no such path, and says so only to those whose signature is good
    let error = ask(&model, &received(false)).unwrap_err();
    assert_eq!(error.kind(), Kind::UpstreamStatus(404), "{error:?}");
}

#[test]
#[ignore = "needs ../shared/rigs/bedrock"]
fn bedrock_with_a_wrong_clock_recovers_with_the_offset() {
    let model = bedrock("m", good_keys());
    let endpoint = &model.endpoints[0];
    let dialect = dialect(ProviderKind::Bedrock);
    let ours = SystemTime::now() - Duration::from_mins(20);
    let received = received(true);
    let mut outbound = dialect.encode(&received, &model).unwrap();
    dialect.authorize(&mut outbound, &model, &SigningContext { endpoint, now: ours }).unwrap();
    let (status, headers, body) = post(endpoint, &outbound);
    let body = Bytes::from(body);
    assert!(
        dialect.error_from_response(status, &headers, &body).operator().unwrap().contains("clock")
    );
    let now = dialect.clock_offset(status, &headers, &body, ours).unwrap().apply(ours);
    dialect.authorize(&mut outbound, &model, &SigningContext { endpoint, now }).unwrap();
    assert!(answer(dialect, &received, &post(endpoint, &outbound)).is_ok());
}

#[test]
#[ignore = "needs ../shared/rigs/bedrock"]
fn bedrock_faults_before_and_inside_the_stream() {
    for (word, status) in [
        ("throttle", 429),
        ("validation", 400),
        ("denied", 403),
        ("notfound", 404),
        ("notready", 429),
        ("unavailable", 503),
        ("internal", 500),
        ("timeout", 408),
        ("midstream", 429),
    ] {
        let error =
            ask(&bedrock(&format!("eu.x-{word}-v1:0"), good_keys()), &received(true)).unwrap_err();
        assert_eq!(error.kind(), Kind::UpstreamStatus(status), "{word}: {error:?}");
    }
    for (word, says) in [("badcrc", "corrupt frame"), ("cut", "before the end")] {
        let error =
            ask(&bedrock(&format!("eu.x-{word}-v1:0"), good_keys()), &received(true)).unwrap_err();
        assert_eq!(error.kind(), Kind::UpstreamBroken, "{word}");
        assert!(format!("{error:?}").contains(says), "{word}: {error:?}");
    }
}

fn azure(name: &str, version: &str) -> Model {
    let version = ApiVersion::parse(version).unwrap();
    model(
        ProviderKind::Azure,
        name,
        &rig("WEIR_RIG_AZURE"),
        Access::Azure(AzureAccess { version, entra: None }),
    )
}

#[test]
#[ignore = "needs ../shared/rigs/azure"]
fn azure_answers_on_both_paths() {
    for version in ["v1", "2024-10-21", "2025-02-01-preview"] {
        for received in [received(false), received(true), called_everything(true)] {
            let out = ask(&azure("gpt4o", version), &received)
                .unwrap_or_else(|error| panic!("{version}: {error:?}"));
            assert_eq!(text(&out), "word0 word1 word2 word3 word4 ", "{version}");
            assert!(
                matches!(out.last(), Some(Delta::Usage(usage)) if usage.output == 5),
                "{out:?}"
            );
        }
    }
    let out = ask(&azure("gpt-outfilter", "v1"), &received(true)).unwrap();
    assert!(out.contains(&Delta::Stop(StopReason::ContentFilter)));
}

#[test]
#[ignore = "needs ../shared/rigs/azure"]
fn azure_faults() {
    for (word, kind, retryable) in [
        ("limit", Kind::UpstreamStatus(429), true),
        ("missing", Kind::UpstreamStatus(404), false),
        ("filter", Kind::ContentFilter, false),
        ("internal", Kind::UpstreamStatus(500), true),
        ("busy", Kind::UpstreamStatus(503), true),
        ("cut", Kind::UpstreamBroken, true),
        ("err", Kind::UpstreamBroken, true),
    ] {
        let error = ask(&azure(&format!("gpt-{word}"), "2024-10-21"), &received(true)).unwrap_err();
        let elsewhere = error.kind().row().retry_scope == RetryScope::OtherReplica;
        assert_eq!((error.kind(), elsewhere), (kind, retryable), "{word}: {error:?}");
    }
    let mut locked = azure("gpt4o", "v1");
    locked.api_key = Some(Secret::new("canary".to_owned()));
    let error = ask(&locked, &received(false)).unwrap_err();
    assert!(
        error.operator().unwrap().contains("api_key") && !format!("{error:?}").contains("canary"),
        "{error:?}"
    );
}
