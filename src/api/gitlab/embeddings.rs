//! `POST /v1/embeddings/code_embeddings`, `/index`, `/search`: vectors for GitLab's semantic code
//! search.
//!
//! Source: contract::gitlab_client §9.4, contract::ai_gateway_server §1.7. All three do the same.
//! The request to the model is in OpenAI's dialect, of which only the URL differs between kinds of
//! servers.

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
use crate::provider::{NativeCall, Outbound, dialect};
use crate::route::{Feature, ModelMetadata, RawModelMetadata, Route, RouteQuery, Rule};

/// Most texts in one request: OpenAI's own limit, which most servers share.
const MAX_CONTENTS: usize = 2048;
/// Longest response of a model server in bytes. 2048 vectors of 1024 numbers are about half of it.
const MAX_RESPONSE: usize = 64 << 20;

/// The fields that routing needs.
#[derive(Deserialize)]
struct EmbeddingsRouting<'a> {
    #[serde(borrow)]
    model_metadata: Option<EmbeddingsModel<'a>>,
}

/// The model that the request names, and the provider that GitLab chose for it.
#[derive(Deserialize)]
struct EmbeddingsModel<'a> {
    #[serde(borrow)]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow, flatten)]
    fields: RawModelMetadata<'a>,
}

/// The fields that the request to the model needs.
#[derive(Deserialize)]
struct EmbeddingsRequest<'a> {
    #[serde(borrow)]
    contents: Vec<Cow<'a, str>>,
    dimensions: Option<u32>,
    /// Whether the request may be retried without `dimensions` if the model does not support them.
    litellm_drop_params: Option<bool>,
}

/// Answers with one vector for each of `contents`, in the same order.
pub(in crate::api) async fn answer(mut context: Context<'_>, incoming: Incoming) -> Answer {
    let bytes = context.body(incoming).await?;
    let feature = Feature::parse("embeddings_code");
    context.record_feature(feature);
    let routing: EmbeddingsRouting<'_> = body::parse(&bytes)?;
    let metadata = routing.model_metadata.as_ref().map(check_model).transpose()?.flatten();
    let route = match context.route(RouteQuery { feature, metadata }, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let request: EmbeddingsRequest<'_> = body::parse(&bytes)?;
    request.check()?;
    let predictions = embed(&mut context, &route, &request).await?;
    let requested = routing.model_metadata.and_then(|model| model.fields.identifier);
    let identifier = match requested {
        Some(requested) if route.rule == Rule::Request => requested,
        // the file overrode the request
        _ => Cow::Borrowed(&*route.model.upstream_name),
    };
    let model =
        json!({ "engine": "litellm_embedding", "name": "embedding", "identifier": identifier });
    Ok(json(serde_json::to_vec(&PredictionsBody { model, predictions }).unwrap_or_default()))
}

/// Checks the model that the request names by GitLab's own rules, with the official gateway's error
/// texts. `None` leaves the choice to this gateway's configuration.
fn check_model(model: &EmbeddingsModel<'_>) -> Result<Option<ModelMetadata>, GatewayError> {
    let invalid = |text: &'static str| Err(GatewayError::new(Kind::Invalid, text));
    match model.provider.as_deref() {
        Some("gitlab") => return Ok(None),
        Some("litellm") => {}
        _ => return invalid("Allowed providers are: gitlab|litellm."),
    }
    match model.fields.name.as_deref() {
        None | Some("") => {
            return invalid("Model `name` must be set when using `litellm` provider.");
        }
        Some("embedding") => {}
        Some(_) => {
            return invalid("Model `name` must be 'embedding' when using `litellm` provider.");
        }
    }
    if model.fields.endpoint.as_deref().unwrap_or_default().trim().is_empty() {
        return invalid("Model `endpoint` must be set when using `litellm` provider.");
    }
    ModelMetadata::parse(&model.fields, &["model_metadata"])
        .map_err(|fault| GatewayError::invalid(vec![fault]))
}

impl EmbeddingsRequest<'_> {
    /// Refuses a request without texts or with too many, and a dimension of 0.
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

/// Returns the vectors of all texts and records the usage. Retries once without `dimensions` if
/// they may be dropped and the model server rejects the request.
async fn embed(
    context: &mut Context<'_>,
    route: &Route,
    request: &EmbeddingsRequest<'_>,
) -> Result<Vec<Prediction>, GatewayError> {
    let first = fetch_vectors(context, route, request, request.dimensions).await;
    let can_drop = request.dimensions.is_some() && request.litellm_drop_params == Some(true);
    let Vectors { predictions, usage } = match first {
        Err(error) if can_drop && matches!(error.kind(), Kind::UpstreamStatus(400 | 422)) => {
            context.facts.retries += 1;
            fetch_vectors(context, route, request, None).await?
        }
        first => first?,
    };
    context.facts.usage = usage.unwrap_or(context.facts.usage);
    Ok(predictions)
}

/// The body of the request in OpenAI's dialect.
#[derive(Serialize)]
struct OutboundEmbeddings<'a> {
    input: &'a [Cow<'a, str>],
    model: &'a str,
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

/// Sends one request to the model server and returns the vectors.
async fn fetch_vectors(
    context: &mut Context<'_>,
    route: &Route,
    request: &EmbeddingsRequest<'_>,
    dimensions: Option<u32>,
) -> Result<Vectors, GatewayError> {
    let model = &route.model;
    let path = dialect(model.provider)
        .native_path(NativeCall::OpenAiEmbeddings, model)
        .ok_or_else(|| no_embeddings(model))?;
    let request_body = OutboundEmbeddings {
        input: &request.contents,
        model: &model.upstream_name,
        encoding_format: "float",
        dimensions,
    };
    let body = serde_json::to_vec(&request_body).unwrap_or_default();
    let headers = HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )]);
    let outbound = Outbound { method: Method::POST, path, headers, body: Bytes::from(body).into() };
    let read = |body: &[u8]| parse_response(body, request.contents.len());
    context.relay.fetch(context.call(route), outbound, MAX_RESPONSE, read, context.facts).await
}

/// Returns the error for a model whose kind of provider has no embeddings.
fn no_embeddings(model: &Model) -> GatewayError {
    let kind = model.provider.label();
    let text = format!(
        "The model `{}` of kind {kind} gives no embeddings here, OpenAI-compatible and Azure models do \
         (features.embeddings_code)",
        model.id
    );
    GatewayError::new(Kind::Invalid, text)
}

/// The response's body.
#[derive(Serialize)]
struct PredictionsBody {
    model: serde_json::Value,
    predictions: Vec<Prediction>,
}

/// One vector, kept as JSON text so that its digits do not change.
#[derive(Deserialize, Serialize)]
struct Prediction {
    embedding: Box<RawValue>,
    index: usize,
}

/// The vectors of a response, sorted by index, and their usage.
struct Vectors {
    predictions: Vec<Prediction>,
    usage: Option<Usage>,
}

/// A model server's response in OpenAI's dialect.
#[derive(Deserialize)]
struct OpenAiEmbeddings {
    data: Vec<Prediction>,
    usage: Option<OpenAiEmbeddingsUsage>,
}

#[derive(Deserialize)]
struct OpenAiEmbeddingsUsage {
    #[serde(default)]
    prompt_tokens: u64,
}

/// Parses a server's response. Fails unless it has exactly one vector for each text.
fn parse_response(body: &[u8], expected: usize) -> Result<Vectors, GatewayError> {
    let broken = |why: String| {
        GatewayError::new(Kind::UpstreamBroken, "The model server's answer could not be read")
            .internal(why)
    };
    let OpenAiEmbeddings { mut data, usage } = serde_json::from_slice(body)
        .map_err(|error| broken(format!("not a list of embeddings: {error}")))?;
    data.sort_unstable_by_key(|prediction| prediction.index);
    let in_order = data.iter().enumerate().all(|(index, prediction)| prediction.index == index);
    if data.len() != expected || !in_order {
        return Err(broken(format!("{} embeddings for {expected} texts", data.len())));
    }
    if !data.iter().all(|prediction| prediction.embedding.get().starts_with('[')) {
        return Err(broken("an embedding is not an array of numbers".to_owned()));
    }
    let usage = usage.map(|usage| Usage { input: usage.prompt_tokens, ..Usage::default() });
    Ok(Vectors { predictions: data, usage })
}

#[cfg(test)]
mod tests {
    use super::{Vectors, parse_response};

    #[test]
    fn vectors_are_sorted_and_keep_their_digits() {
        let body = br#"{"data":[{"index":1,"embedding":[0.10, 1e-9]},{"embedding":[2],"index":0}],"usage":{"prompt_tokens":5}}"#;
        let Vectors { predictions, usage } = parse_response(body, 2).unwrap();
        let shown: Vec<_> =
            predictions.iter().map(|vector| (vector.index, vector.embedding.get())).collect();
        assert_eq!(shown, [(0, "[2]"), (1, "[0.10, 1e-9]")]);
        assert_eq!(usage.unwrap().input, 5);
    }

    #[test]
    fn responses_without_one_vector_per_text_are_refused() {
        let reason = |body: &str, expected| {
            parse_response(body.as_bytes(), expected).err().unwrap().operator().unwrap().to_owned()
        };
        assert_eq!(
            reason(r#"{"data":[{"index":0,"embedding":[1]}]}"#, 2),
            "1 embeddings for 2 texts"
        );
        assert!(
            reason(r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, 2)
                .starts_with("2 ")
        );
        assert_eq!(
            reason(r#"{"data":[{"index":0,"embedding":"AAAA"}]}"#, 1),
            "an embedding is not an array of numbers"
        );
        assert!(reason("<html>", 1).starts_with("not a list of embeddings"));
    }
}
