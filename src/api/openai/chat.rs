//! A chat call to a model whose server does not speak OpenAI's API: translated both ways.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;

use super::encode::{Chunks, Naming, Whole};
use super::translate_request::ChatRequest;
use crate::api::{Answer, Context, json};
use crate::generation::Encode as _;
use crate::route::Route;

/// Answers the call along its route.
pub(super) async fn translated(context: Context<'_>, route: &Route, body: &[u8]) -> Answer {
    let ChatRequest { model, generation, include_usage } = ChatRequest::parse(body)?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let naming = Naming { id: format!("chatcmpl-{:032x}", fastrand::u128(..)), model, created };
    if generation.stream {
        let encoder = Box::new(Chunks::new(&naming, include_usage));
        let call = context.call(route);
        return context.relay.stream(call, &generation, encoder, "text/event-stream", context.facts).await;
    }
    let deltas = context.relay.ask(context.call(route), &generation, context.facts).await?;
    let (mut whole, mut out) = (Whole::new(naming), BytesMut::new());
    deltas.iter().for_each(|delta| whole.delta(delta, &mut out));
    whole.finish(&mut out);
    Ok(json(out.freeze()))
}
