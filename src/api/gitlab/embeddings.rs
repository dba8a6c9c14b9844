//! `POST /v1/embeddings/code_embeddings`, `/index`, `/search`: vectors for GitLab's semantic code
//! search.
//!
//! Source: gitlab-client.md §9.4, ai-gateway-server.md §1.7. All three do the same. The model is
//! asked in OpenAI's dialect, of which only the addressing differs between kinds of servers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::api::{Answer, Context, Routed, body, json};
use crate::error::{BodyFault, GatewayError, Kind};
use crate::generation::Usage;
use crate::model::Model;
use crate::provider::{Native, Outbound, dialect};
use crate::route::{Ask, Feature, Metadata, RawMetadata, Route, Rule};

/// OpenAI's own limit for one request, which most servers share.
const MAX_CONTENTS: usize = 2048;
/// 2048 vectors of 1024 numbers are about half of it.
const MAX_ANSWER: usize = 64 << 20;

/// What decides about the model.
#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    model_metadata: Option<Named<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow, flatten)]
    model: RawMetadata<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    contents: Vec<Cow<'a, str>>,
    dimensions: Option<u32>,
    /// Whether the model may be asked without `dimensions` when it does not know them.
    litellm_drop_params: Option<bool>,
}

/// Answers with one vector for each of `contents`, in their order.
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let bytes = context.body(incoming).await?;
    let feature = Feature::parse("embeddings_code");
    context.asked_for(feature);
    let addressed: Addressed<'_> = body::parse(&bytes)?;
    let metadata = addressed.model_metadata.as_ref().map(metadata).transpose()?.flatten();
    let route = match context.route(Ask { feature, metadata }, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let request: Request<'_> = body::parse(&bytes)?;
    request.check()?;
    let predictions = vectors(&mut context, &route, &request).await?;
    let said = addressed.model_metadata.and_then(|named| named.model.identifier);
    let identifier = match said {
        Some(said) if route.rule == Rule::Request => said,
        // the file decided otherwise than the request
        _ => Cow::Borrowed(&*route.model.upstream_name),
    };
    let model =
        json!({ "engine": "litellm_embedding", "name": "embedding", "identifier": identifier });
    Ok(json(serde_json::to_vec(&Predictions { model, predictions }).unwrap_or_default()))
}

/// The model that the request names, by GitLab's own rules and in the official gateway's words.
fn metadata(named: &Named<'_>) -> Result<Option<Metadata>, GatewayError> {
    let wrong = |text: &'static str| Err(GatewayError::new(Kind::Invalid, text));
    match named.provider.as_deref() {
        Some("gitlab") => return Ok(None),
        Some("litellm") => {}
        _ => return wrong("Allowed providers are: gitlab|litellm."),
    }
    match named.model.name.as_deref() {
        None | Some("") => return wrong("Model `name` must be set when using `litellm` provider."),
        Some("embedding") => {}
        Some(_) => return wrong("Model `name` must be 'embedding' when using `litellm` provider."),
    }
    if named.model.endpoint.as_deref().unwrap_or_default().trim().is_empty() {
        return wrong("Model `endpoint` must be set when using `litellm` provider.");
    }
    Metadata::check(&named.model, &["model_metadata"])
        .map_err(|fault| GatewayError::invalid(vec![fault]))
}

impl Request<'_> {
    fn check(&self) -> Result<(), GatewayError> {
        let fault = match (self.contents.len(), self.dimensions) {
            (0, _) => BodyFault::at("contents", "value_error", "expected at least one text"),
            (count, _) if count > MAX_CONTENTS => {
                let text = format!(
                    "expected at most {MAX_CONTENTS} texts, there are {count}: send several requests"
                );
                BodyFault::at("contents", "value_error", text)
            }
            (_, Some(0)) => BodyFault::at("dimensions", "value_error", "expected a number above 0"),
            _ => return Ok(()),
        };
        Err(GatewayError::invalid(vec![fault]))
    }
}

/// Asks the model; once more without `dimensions` if they may be dropped and it is them that it
/// refuses.
async fn vectors(
    context: &mut Context<'_>,
    route: &Route,
    request: &Request<'_>,
) -> Result<Vec<Prediction>, GatewayError> {
    let first = ask(context, route, request, request.dimensions).await;
    let may_drop = request.dimensions.is_some() && request.litellm_drop_params == Some(true);
    let (predictions, usage) = match first {
        Err(error) if may_drop && matches!(error.kind(), Kind::UpstreamStatus(400 | 422)) => {
            context.facts.retries += 1;
            ask(context, route, request, None).await?
        }
        first => first?,
    };
    context.facts.usage = usage.unwrap_or(context.facts.usage);
    Ok(predictions)
}

/// The body of OpenAI's call.
#[derive(Serialize)]
struct Asked<'a> {
    input: &'a [Cow<'a, str>],
    model: &'a str,
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

async fn ask(
    context: &mut Context<'_>,
    route: &Route,
    request: &Request<'_>,
    dimensions: Option<u32>,
) -> Result<Vectors, GatewayError> {
    let model = &route.model;
    let path = dialect(model.provider)
        .native(Native::OpenAiEmbeddings, model)
        .ok_or_else(|| no_embeddings(model))?;
    let asked = Asked {
        input: &request.contents,
        model: &model.upstream_name,
        encoding_format: "float",
        dimensions,
    };
    let body = serde_json::to_vec(&asked).unwrap_or_default();
    let headers = HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )]);
    let outbound = Outbound { method: Method::POST, path, headers, body: Bytes::from(body).into() };
    let read = |body: &[u8]| read(body, request.contents.len());
    context.relay.fetch(context.call(route), outbound, MAX_ANSWER, read, context.facts).await
}

fn no_embeddings(model: &Model) -> GatewayError {
    let kind = model.provider.label();
    let text = format!(
        "The model `{}` of kind {kind} gives no embeddings here, OpenAI-compatible and Azure models do \
         (features.embeddings_code)",
        model.id
    );
    GatewayError::new(Kind::Invalid, text)
}

#[derive(Serialize)]
struct Predictions {
    model: serde_json::Value,
    predictions: Vec<Prediction>,
}

/// One vector; its digits are handed on as they came.
#[derive(Deserialize, Serialize)]
struct Prediction {
    embedding: Box<RawValue>,
    index: usize,
}

/// The vectors of an answer, and what they were counted as.
type Vectors = (Vec<Prediction>, Option<Usage>);

#[derive(Deserialize)]
struct Answered {
    data: Vec<Prediction>,
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u64,
}

/// Reads a server's answer: one vector for each text, in their order.
fn read(body: &[u8], expected: usize) -> Result<Vectors, GatewayError> {
    let broken = |why: String| {
        GatewayError::new(Kind::UpstreamBroken, "The model server's answer could not be read")
            .internal(why)
    };
    let Answered { mut data, usage } = serde_json::from_slice(body)
        .map_err(|error| broken(format!("not a list of embeddings: {error}")))?;
    data.sort_unstable_by_key(|prediction| prediction.index);
    let in_order = data.iter().enumerate().all(|(at, prediction)| prediction.index == at);
    if data.len() != expected || !in_order {
        return Err(broken(format!("{} embeddings for {expected} texts", data.len())));
    }
    if !data.iter().all(|prediction| prediction.embedding.get().starts_with('[')) {
        return Err(broken("an embedding is not an array of numbers".to_owned()));
    }
    Ok((data, usage.map(|counted| Usage { input: counted.prompt_tokens, ..Usage::default() })))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn vectors_come_in_order_with_their_own_digits() {
        let body = br#"{"data":[{"index":1,"embedding":[0.10, 1e-9]},{"embedding":[2],"index":0}],"usage":{"prompt_tokens":5}}"#;
        let (vectors, usage) = read(body, 2).unwrap();
        let shown: Vec<_> =
            vectors.iter().map(|vector| (vector.index, vector.embedding.get())).collect();
        assert_eq!(shown, [(0, "[2]"), (1, "[0.10, 1e-9]")]);
        assert_eq!(usage.unwrap().input, 5);
    }

    #[test]
    fn anything_else_than_one_vector_a_text_is_broken() {
        let of = |body: &str, expected| {
            read(body.as_bytes(), expected).err().unwrap().operator().unwrap().to_owned()
        };
        assert_eq!(of(r#"{"data":[{"index":0,"embedding":[1]}]}"#, 2), "1 embeddings for 2 texts");
        assert!(
            of(r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, 2)
                .starts_with("2 ")
        );
        assert_eq!(
            of(r#"{"data":[{"index":0,"embedding":"AAAA"}]}"#, 1),
            "an embedding is not an array of numbers"
        );
        assert!(of("<html>", 1).starts_with("not a list of embeddings"));
    }
}
