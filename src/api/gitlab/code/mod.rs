//! Code suggestions: `/v2/code/completions`, `/v2/code/generations`, `/v3/code/completions`,
//! `/v4/code/suggestions`.
//!
//! Sources: contract::gitlab_client §6, contract::ai_gateway_server §1.3, §1.4, §2.7, §2.8.
//! Workhorse carries these calls and gives up after 55 s without a response head; the features' own
//! limit of 50 s comes first.

mod dedupe;
mod language;
mod prompt;
mod prompt_window;
mod request;
mod response;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{RawTextEncoder, STREAM_CONTENT_TYPE, concat_text, last_usage};
use crate::api::{Answer, Context, Routed, json, text_header};
use crate::auth::{Permission, Scopes};
use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{
    BlankFilter, Delta, EchoFilter, Encode, FenceFilter, Filter, FilterChain, FilteredEncoder,
    NewCodeFilter, OwnLineFilter, StopReason, ThinkFilter, UnderscoreFilter, without_thinking,
};
use crate::relay::Content;
use crate::route::{Feature, Route, RouteQuery};
use language::Language;
use prompt::{CodePrompt, CodePromptBuilder, CompletionPrompt};
use request::{CodeRequest, CodeRouting};
use response::{SuggestionEventEncoder, SuggestionMeta};

/// One of the code calls.
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
    /// Returns the feature if the path alone decides it; for v3 and v4 the body does.
    const fn feature(self) -> Option<Feature> {
        match self {
            Self::Completion => Some(Feature::CODE_COMPLETIONS),
            Self::Generation => Some(Feature::CODE_GENERATIONS),
            Self::Suggestion | Self::SuggestionEvents => None,
        }
    }

    /// Returns the permission for the call. For v3 and v4 it is one of two, and the body decides
    /// which.
    pub(in crate::api) fn permission(self) -> Permission {
        let (any_of, what) = match self {
            Self::Completion => {
                (Scopes::for_feature(Feature::CODE_COMPLETIONS), "code completions")
            }
            Self::Generation => {
                (Scopes::for_feature(Feature::CODE_GENERATIONS), "code generations")
            }
            Self::Suggestion | Self::SuggestionEvents => {
                (Scopes::from_names(["complete_code", "generate_code"]), "code suggestions")
            }
        };
        Permission { user_tokens: true, ..Permission::to_access(any_of, what) }
    }
}

/// Answers with a code suggestion for the cursor.
pub(in crate::api) async fn answer(
    mut context: Context<'_>,
    call: CodeCall,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let CodeRouting { feature, stream, metadata } = CodeRouting::parse(call, &bytes)?;
    context.record_feature(Some(feature));
    context.facts.stream = stream;
    if stream && call == CodeCall::SuggestionEvents {
        context.facts.shape = Shape::GitlabCodeEvents;
    }
    let permission = Permission { any_of: Scopes::for_feature(feature), ..call.permission() };
    context.caller.authorize(&permission)?;
    let mut route =
        match context.route(RouteQuery { feature: Some(feature), metadata }, &bytes).await? {
            Routed::Model(route) => route,
            Routed::Answered(response) => return Ok(response),
        };
    let request = CodeRequest::parse(call, &bytes)?;
    let editor_language = request.file.language_identifier.as_deref();
    let Some(language) = language::detect(request.file.file_name.trim(), editor_language) else {
        return Ok(empty_response(&context, call, &request, &route));
    };
    loop {
        let suggestion =
            Suggestion { call, request: &request, language: &language, route: &route, stream };
        match suggestion.run(&mut context).await {
            Err(error) => route = context.next_fallback(&route, error)?,
            answer => return answer,
        }
    }
}

/// A suggestion in progress, from one model.
struct Suggestion<'a> {
    call: CodeCall,
    request: &'a CodeRequest<'a>,
    language: &'a Language<'a>,
    route: &'a Route,
    stream: bool,
}

impl Suggestion<'_> {
    /// Sends the request to the model; once more as an instruction if the server has no
    /// `/completions` for a raw prompt.
    async fn run(self, context: &mut Context<'_>) -> Answer {
        let form = CompletionPrompt::for_model(&self.route.model);
        let is_raw = self.is_completion() && form == CompletionPrompt::Fim;
        let prompt = self.prompt(context, form)?;
        match self.send(context, &prompt, form).await {
            // a server without /completions, or one that serves this model as a chat only
            Err(error) if is_raw && is_endpoint_missing(&error) => {
                let form = CompletionPrompt::Instruct;
                let prompt = self.prompt(context, form)?;
                context.facts.retries += 1;
                self.send(context, &prompt, form).await
            }
            answer => answer,
        }
    }

    const fn is_completion(&self) -> bool {
        self.request.generation.is_none()
    }

    /// Returns whether the model is instructed in chat messages, so that its response may contain
    /// reasoning, fences and an echo. A response to FIM tokens is code from the first byte on.
    fn is_instructed(&self, form: CompletionPrompt) -> bool {
        !self.is_completion() || form == CompletionPrompt::Instruct
    }

    /// Builds the prompt. `form` applies to completions only.
    fn prompt(
        &self,
        context: &Context<'_>,
        form: CompletionPrompt,
    ) -> Result<CodePrompt, GatewayError> {
        let builder = CodePromptBuilder {
            request: self.request,
            language: self.language,
            family: &self.route.model.family,
            registry: &context.snapshot.prompts,
            stream: self.stream,
        };
        match &self.request.generation {
            None => builder.completion(form),
            Some(input) => builder.generation(input),
        }
    }

    /// Sends the prompt to the model and answers with its response.
    async fn send(
        &self,
        context: &mut Context<'_>,
        prompt: &CodePrompt,
        form: CompletionPrompt,
    ) -> Answer {
        let meta = suggestion_meta(context, self.call, self.request, self.route, self.language.id);
        let call = context.call(self.route);
        if !self.stream {
            let deltas = context.relay.generate(call, &prompt.generation, context.facts).await?;
            return Ok(json(self.full_body(&meta, prompt, form, &deltas)));
        }
        let is_events = self.call == CodeCall::SuggestionEvents;
        let encoder = || -> Box<dyn Encode> {
            let inner: Box<dyn Encode> = if is_events {
                Box::new(SuggestionEventEncoder::new(&meta))
            } else {
                Box::new(RawTextEncoder)
            };
            Box::new(FilteredEncoder::new(self.filters(form), inner))
        };
        let mut response = context
            .relay
            .stream(call, &prompt.generation, &encoder, STREAM_CONTENT_TYPE, context.facts)
            .await?;
        if is_events {
            insert_event_headers(response.headers_mut());
        }
        Ok(response)
    }

    /// Returns the filters for the model's text.
    fn filters(&self, form: CompletionPrompt) -> FilterChain {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        let is_instructed = self.is_instructed(form);
        if is_instructed {
            filters.push(Box::<ThinkFilter>::default());
            filters.push(Box::<NewCodeFilter>::default());
            // in Markdown a fence may be part of the requested text
            if self.language.id != "markdown" {
                filters.push(Box::<FenceFilter>::default());
            }
        }
        if self.is_completion() && is_instructed {
            filters.push(Box::new(EchoFilter::new(self.cursor_line())));
        }
        if self.route.model.family.unescape_underscores {
            filters.push(Box::<UnderscoreFilter>::default());
        }
        filters.push(Box::<BlankFilter>::default());
        if self.is_new_line_needed() {
            filters.push(Box::<OwnLineFilter>::default());
        }
        FilterChain::new(filters)
    }

    /// Returns whether generated code has to start on a new line because there is text before the
    /// cursor. On v2 indentation counts as text, too, as in the official gateway.
    fn is_new_line_needed(&self) -> bool {
        if self.is_completion() {
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

    /// Returns the text before the cursor on its line.
    fn cursor_line(&self) -> &str {
        self.request.file.content_above_cursor.rsplit('\n').next().unwrap_or_default()
    }

    /// Returns the body of a response that is not streamed.
    fn full_body(
        &self,
        meta: &SuggestionMeta,
        prompt: &CodePrompt,
        form: CompletionPrompt,
        deltas: &[Delta],
    ) -> String {
        let text = self.filters(form).apply(&self.text(form, deltas));
        let text = self.dedupe(&text, form);
        match self.call {
            CodeCall::Completion | CodeCall::Generation => {
                response::v2_body(meta, &text, &tokens_metadata(prompt, deltas))
            }
            CodeCall::Suggestion | CodeCall::SuggestionEvents => response::v3_body(meta, &text),
        }
    }

    /// Returns the model's text, without its reasoning if it may contain any.
    fn text(&self, form: CompletionPrompt, deltas: &[Delta]) -> String {
        let text = concat_text(deltas);
        let may_reason = self.route.model.family.strip_reasoning && self.is_instructed(form);
        if may_reason { without_thinking(&text) } else { text }
    }

    /// Removes what the text repeats from the file; a blank rest becomes empty.
    fn dedupe<'t>(&self, text: &'t str, form: CompletionPrompt) -> Cow<'t, str> {
        let file = &self.request.file;
        let text: Cow<'t, str> = if self.is_completion() {
            let text = dedupe::without_line_below(text, &file.content_below_cursor);
            // the line's end belongs to the fence or the message, not to the code
            let is_doubled = form == CompletionPrompt::Instruct
                && file.content_below_cursor.starts_with(['\n', '\r']);
            if is_doubled { text.trim_end_matches(['\n', '\r']) } else { text }.into()
        } else {
            dedupe::without_lines_above(text, &file.content_above_cursor).into()
        };
        if text.trim().is_empty() { Cow::Borrowed("") } else { text }
    }
}

/// Returns whether the server has no such endpoint. An unknown model looks the same; the second
/// attempt then fails again and its error is returned.
fn is_endpoint_missing(error: &GatewayError) -> bool {
    matches!(error.kind(), Kind::UpstreamStatus(404 | 405 | 501))
}

/// Returns the metadata of a call's response, with GitLab's literals for engine and name.
fn suggestion_meta(
    context: &Context<'_>,
    call: CodeCall,
    request: &CodeRequest<'_>,
    route: &Route,
    lang: &'static str,
) -> SuggestionMeta {
    let (engine, name) = match (call, &request.generation) {
        (CodeCall::Completion | CodeCall::Generation, None) => {
            ("litellm", route.model.family.name.to_string())
        }
        (CodeCall::Suggestion | CodeCall::SuggestionEvents, None) => {
            ("openai", route.model.family.name.to_string())
        }
        (_, Some(input)) if input.messages.is_empty() => {
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
    SuggestionMeta { engine, name, lang, timestamp: context.unix_time(), flags }
}

/// Returns the response for a file whose language cannot be detected: no suggestion, without a call
/// to a model.
fn empty_response(
    context: &Context<'_>,
    call: CodeCall,
    request: &CodeRequest<'_>,
    route: &Route,
) -> Response<Content> {
    let meta = suggestion_meta(context, call, request, route, "");
    if context.facts.stream {
        let mut out = bytes::BytesMut::new();
        if call == CodeCall::SuggestionEvents {
            SuggestionEventEncoder::new(&meta).finish(&mut out);
        }
        let mut response = Response::new(Content::Whole(out.freeze()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(STREAM_CONTENT_TYPE));
        if call == CodeCall::SuggestionEvents {
            insert_event_headers(response.headers_mut());
        }
        return response;
    }
    json(match call {
        CodeCall::Completion | CodeCall::Generation => response::v2_body(&meta, "", &Value::Null),
        CodeCall::Suggestion | CodeCall::SuggestionEvents => response::v3_body(&meta, ""),
    })
}

/// Inserts the headers by which GitLab's clients recognize events and proxies do not buffer or
/// cache them (contract::ai_gateway_server §1.4).
fn insert_event_headers(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-streaming-format"), HeaderValue::from_static("sse"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// Returns `tokens_consumption_metadata`: the server's counts, and our estimate of the context.
fn tokens_metadata(prompt: &CodePrompt, deltas: &[Delta]) -> Value {
    let usage = last_usage(deltas).unwrap_or_default();
    let is_truncated = deltas.iter().any(|delta| matches!(delta, Delta::Stop(StopReason::Length)));
    json!({
        "input_tokens": usage.input, "output_tokens": usage.output, "max_output_tokens_used": is_truncated,
        "context_tokens_sent": prompt.context.sent, "context_tokens_used": prompt.context.used,
    })
}
