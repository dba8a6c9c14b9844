//! A chat call to a model whose server does not have OpenAI's API: translated both ways.

use super::encode::{OpenAiFullEncoder, OpenAiResponseMeta, OpenAiStreamEncoder};
use super::translate_request::ChatRequest;
use crate::api::{Answer, Context};
use crate::generation::Encode;
use crate::route::Route;

/// Translates the call for the route's model, and the response for the client.
pub(super) async fn call_translated(
    context: &mut Context<'_>,
    route: &Route,
    body: &[u8],
) -> Answer {
    let ChatRequest { model, generation, include_usage } = ChatRequest::parse(body)?;
    let created = context.unix_time();
    let id = format!("chatcmpl-{:032x}", fastrand::u128(..));
    let meta = OpenAiResponseMeta { id, model, created };
    let encoder = || -> Box<dyn Encode> {
        match generation.stream {
            true => Box::new(OpenAiStreamEncoder::new(&meta, include_usage)),
            false => Box::new(OpenAiFullEncoder::new(meta.clone())),
        }
    };
    context.respond(route, &generation, &encoder).await
}
