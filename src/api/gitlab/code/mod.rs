//! Code suggestions: `/v2/code/completions`, `/v2/code/generations`, `/v3/code/completions`,
//! `/v4/code/suggestions`.
//!
//! Sources: gitlab-client.md §6, ai-gateway-server.md §1.3, §1.4, §2.7, §2.8. Workhorse carries
//! these calls and gives up after 55 s without a head; the features' own limit of 50 s comes first.

mod answer;
mod ask;
mod fit;
mod language;
mod repeat;
mod request;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{RawText, STREAM, usage_of, words};
use crate::api::{Answer, Context, Routed, json, text_header};
use crate::auth::{Permission, Scopes};
use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{
    Blank, Delta, Echo, Encode, Fences, Filter, Filtered, Filters, NewCode, OwnLine, StopReason,
    Think, Underscores, without_thinking,
};
use crate::model::Family;
use crate::relay::Content;
use crate::route::{Ask, Feature, Route};
use answer::{Events, Naming};
use ask::{Asked, Way};
use language::Language;
use request::{Head, Wanted};

/// Which of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeCall {
    /// `POST /v2/code/completions`, `/v2/completions`
    Completion,
    /// `POST /v2/code/generations`
    Generation,
    /// `POST /v3/code/completions`: either of the two, streamed as raw text
    Suggestion,
    /// `POST /v4/code/suggestions`: either of the two, streamed as events
    SuggestionEvents,
}

impl CodeCall {
    /// The feature, where the path alone decides it.
    const fn feature(self) -> Option<Feature> {
        match self {
            Self::Completion => Some(Feature::CODE_COMPLETIONS),
            Self::Generation => Some(Feature::CODE_GENERATIONS),
            Self::Suggestion | Self::SuggestionEvents => None,
        }
    }

    /// What a caller needs. For v3 and v4 one of the two; which one, the body decides.
    pub(in crate::api) fn permission(self) -> Permission {
        let (any_of, what) = match self {
            Self::Completion => (Scopes::of_feature(Feature::CODE_COMPLETIONS), "code completions"),
            Self::Generation => (Scopes::of_feature(Feature::CODE_GENERATIONS), "code generations"),
            Self::Suggestion | Self::SuggestionEvents => {
                (Scopes::of(["complete_code", "generate_code"]), "code suggestions")
            }
        };
        Permission { users: true, ..Permission::to_access(any_of, what) }
    }
}

/// Answers with code for the cursor.
pub(in crate::api) async fn answer(
    mut context: Context<'_>,
    call: CodeCall,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let Head { feature, stream, metadata } = Head::of(call, &bytes)?;
    context.asked_for(Some(feature));
    context.facts.stream = stream;
    if stream && call == CodeCall::SuggestionEvents {
        context.facts.shape = Shape::GitlabCodeEvents;
    }
    let permission = Permission { any_of: Scopes::of_feature(feature), ..call.permission() };
    context.caller.may(&permission)?;
    let mut route = match context.route(Ask { feature: Some(feature), metadata }, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    let wanted = Wanted::of(call, &bytes)?;
    let editor = wanted.file.language_identifier.as_deref();
    let Some(language) = language::of(wanted.file.file_name.trim(), editor) else {
        return Ok(nothing(&context, call, &wanted, &route));
    };
    loop {
        let suggesting =
            Suggesting { call, wanted: &wanted, language: &language, route: &route, stream };
        match suggesting.answer(&mut context).await {
            Err(error) => route = context.instead(&route, error)?,
            answer => return answer,
        }
    }
}

/// One suggestion on its way, by one model.
struct Suggesting<'a> {
    call: CodeCall,
    wanted: &'a Wanted<'a>,
    language: &'a Language<'a>,
    route: &'a Route,
    stream: bool,
}

impl Suggesting<'_> {
    async fn answer(self, context: &mut Context<'_>) -> Answer {
        let way = Way::of(&self.route.model);
        let asked = self.ask(context, way)?;
        let first = self.send(context, &asked, way).await;
        match first {
            // a server without /completions, or one that has only a chat under this name
            Err(error) if way == Way::Raw && self.completes() && is_absent(&error) => {
                let asked = self.ask(context, Way::Words)?;
                context.facts.retries += 1;
                self.send(context, &asked, Way::Words).await
            }
            answer => answer,
        }
    }

    const fn completes(&self) -> bool {
        self.wanted.generation.is_none()
    }

    fn ask(&self, context: &Context<'_>, way: Way) -> Result<Asked, GatewayError> {
        let (model, registry) = (&self.route.model, &context.snapshot.prompts);
        match &self.wanted.generation {
            None => ask::completion(self.wanted, self.language, model, way, registry, self.stream),
            Some(generate) => ask::generation(
                self.wanted,
                generate,
                self.language,
                &model.family,
                registry,
                self.stream,
            ),
        }
    }

    async fn send(&self, context: &mut Context<'_>, asked: &Asked, way: Way) -> Answer {
        let naming = naming(context, self.call, self.wanted, self.route, self.language.id);
        let call = context.call(self.route);
        if !self.stream {
            let deltas = context.relay.ask(call, &asked.generation, context.facts).await?;
            return Ok(json(self.whole(&naming, asked, way, &deltas)));
        }
        let is_events = self.call == CodeCall::SuggestionEvents;
        let encoder = || -> Box<dyn Encode> {
            let inner: Box<dyn Encode> =
                if is_events { Box::new(Events::new(&naming)) } else { Box::new(RawText) };
            Box::new(Filtered::new(self.filters(way), inner))
        };
        let mut response =
            context.relay.stream(call, &asked.generation, &encoder, STREAM, context.facts).await?;
        if is_events {
            events_headers(response.headers_mut());
        }
        Ok(response)
    }

    /// What is taken off the model's words. What goes on between marks is code from the first byte
    /// on.
    fn filters(&self, way: Way) -> Filters {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        let is_talk = !self.completes() || way == Way::Words;
        if is_talk {
            filters.push(Box::<Think>::default());
            filters.push(Box::<NewCode>::default());
            // in Markdown a fence may be what was asked for
            if self.language.id != "markdown" {
                filters.push(Box::<Fences>::default());
            }
        }
        if self.completes() && is_talk {
            filters.push(Box::new(Echo::new(self.cursor_line())));
        }
        if self.route.model.family.unescape_underscores {
            filters.push(Box::<Underscores>::default());
        }
        filters.push(Box::<Blank>::default());
        if self.needs_own_line() {
            filters.push(Box::<OwnLine>::default());
        }
        Filters::new(filters)
    }

    /// Whether generated code would stand behind something on the cursor's line. On v2 the official
    /// gateway begins a new line behind indentation, too.
    fn needs_own_line(&self) -> bool {
        if self.completes() {
            return false;
        }
        let line = self.cursor_line();
        match self.call {
            CodeCall::Generation => !line.is_empty(),
            CodeCall::Completion | CodeCall::Suggestion | CodeCall::SuggestionEvents => {
                !line.trim().is_empty()
            }
        }
    }

    /// What stands before the cursor on its line.
    fn cursor_line(&self) -> &str {
        self.wanted.file.content_above_cursor.rsplit('\n').next().unwrap_or_default()
    }

    fn whole(&self, naming: &Naming, asked: &Asked, way: Way, deltas: &[Delta]) -> String {
        let family = &self.route.model.family;
        let text = self.filters(way).whole(&self.words(way, family, deltas));
        let text = self.without_repetition(&text, way);
        match self.call {
            CodeCall::Completion | CodeCall::Generation => {
                answer::v2(naming, &text, &tokens(asked, deltas))
            }
            CodeCall::Suggestion | CodeCall::SuggestionEvents => answer::v3(naming, &text),
        }
    }

    fn words(&self, way: Way, family: &Family, deltas: &[Delta]) -> String {
        let text = words(deltas);
        let may_think = family.strip_reasoning && (!self.completes() || way == Way::Words);
        if may_think { without_thinking(&text) } else { text }
    }

    fn without_repetition<'t>(&self, text: &'t str, way: Way) -> Cow<'t, str> {
        let file = &self.wanted.file;
        let text: Cow<'t, str> = if self.completes() {
            let text = repeat::without_line_below(text, &file.content_below_cursor);
            // the line's end is the fence's or the conversation's, not the code's
            let is_doubled =
                way == Way::Words && file.content_below_cursor.starts_with(['\n', '\r']);
            if is_doubled { text.trim_end_matches(['\n', '\r']) } else { text }.into()
        } else {
            repeat::without_lines_above(text, &file.content_above_cursor).into()
        };
        if text.trim().is_empty() { Cow::Borrowed("") } else { text }
    }
}

/// Whether the server has no such call. A model that it does not know looks the same, and is told
/// by the second try.
fn is_absent(error: &GatewayError) -> bool {
    matches!(error.kind(), Kind::UpstreamStatus(404 | 405 | 501))
}

fn naming(
    context: &Context<'_>,
    call: CodeCall,
    wanted: &Wanted<'_>,
    route: &Route,
    lang: &'static str,
) -> Naming {
    let (engine, name) = match (call, &wanted.generation) {
        (CodeCall::Completion | CodeCall::Generation, None) => {
            ("litellm", route.model.family.name.to_string())
        }
        (CodeCall::Suggestion | CodeCall::SuggestionEvents, None) => {
            ("openai", route.model.family.name.to_string())
        }
        (_, Some(generate)) if generate.messages.is_empty() => {
            ("agent", "Code Generations Agent".to_owned())
        }
        (_, Some(_)) => ("litellm", route.model.family.name.to_string()),
    };
    let flags =
        text_header(&context.parts.headers, "x-gitlab-enabled-feature-flags").unwrap_or_default();
    let flags = flags
        .split(',')
        .map(str::trim)
        .filter(|flag| !flag.is_empty())
        .map(str::to_owned)
        .collect();
    Naming { engine, name, lang, now: context.unix_time(), flags }
}

/// The answer for a file of which nothing tells the language: no suggestion, and no model is asked.
fn nothing(
    context: &Context<'_>,
    call: CodeCall,
    wanted: &Wanted<'_>,
    route: &Route,
) -> Response<Content> {
    let naming = naming(context, call, wanted, route, "");
    if context.facts.stream {
        let mut out = bytes::BytesMut::new();
        if call == CodeCall::SuggestionEvents {
            Events::new(&naming).finish(&mut out);
        }
        let mut response = Response::new(Content::Whole(out.freeze()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(STREAM));
        if call == CodeCall::SuggestionEvents {
            events_headers(response.headers_mut());
        }
        return response;
    }
    json(match call {
        CodeCall::Completion | CodeCall::Generation => answer::v2(&naming, "", &Value::Null),
        CodeCall::Suggestion | CodeCall::SuggestionEvents => answer::v3(&naming, ""),
    })
}

/// Tells GitLab's clients that these are events, and proxies not to keep them (ai-gateway-server.md
/// §1.4).
fn events_headers(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-streaming-format"), HeaderValue::from_static("sse"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// `tokens_consumption_metadata`: the server's counts, and our estimate of the context.
fn tokens(asked: &Asked, deltas: &[Delta]) -> Value {
    let usage = usage_of(deltas).unwrap_or_default();
    let cut = deltas.iter().any(|delta| matches!(delta, Delta::Stop(StopReason::Length)));
    json!({
        "input_tokens": usage.input, "output_tokens": usage.output, "max_output_tokens_used": cut,
        "context_tokens_sent": asked.context.sent, "context_tokens_used": asked.context.used,
    })
}
