//! A chat call to a model whose server does not speak OpenAI's API: translated both ways.

use super::encode::{Chunks, Naming, Whole};
use super::translate_request::ChatRequest;
use crate::api::{Answer, Context};
use crate::generation::Encode;
use crate::route::Route;

/// Answers the call along its route.
pub(super) async fn translated(context: &mut Context<'_>, route: &Route, body: &[u8]) -> Answer {
    let ChatRequest { model, generation, include_usage } = ChatRequest::parse(body)?;
    let created = context.unix_time();
    let naming = Naming { id: format!("chatcmpl-{:032x}", fastrand::u128(..)), model, created };
    let encoder = || -> Box<dyn Encode> {
        match generation.stream {
            true => Box::new(Chunks::new(&naming, include_usage)),
            false => Box::new(Whole::new(naming.clone())),
        }
    };
    context.written(route, &generation, &encoder).await
}
