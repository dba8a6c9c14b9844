//! The demo's model server: OpenAI's API as vLLM implements it, Azure's and Bedrock's, in this
//! process, with three kinds of failure. It is an ordinary HTTP server on a loopback port, so that
//! the demo's gateway does what it does in production.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};

use super::bedrock;
use super::routes::{DemoDialect, DemoRoute};
use super::shapes::{self, DemoRequest, Kind, Reply, StreamEvent};
use crate::secret::Secret;
use crate::server::side_listener::{self, ListenerLimits};

/// The model that responds.
pub const DEMO: &str = "demo";
/// The model that waits ten minutes before its first byte: longer than any timeout.
pub const SLOW: &str = "demo-slow";
/// The model that returns 500.
pub const BROKEN: &str = "demo-broken";
/// The model that closes the connection halfway through its response.
pub const CUT: &str = "demo-cut";

const MODELS: [&str; 4] = [DEMO, SLOW, BROKEN, CUT];
/// How long `demo-slow` waits.
const SLOW_WAIT: Duration = Duration::from_secs(600);
const SSE: &str = "text/event-stream; charset=utf-8";
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";
const MAX_BODY: usize = 64 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The listener's limits. The lifetime is longer than `demo-slow` takes.
const LIMITS: ListenerLimits =
    ListenerLimits { connections: 256, lifetime: Duration::from_secs(900) };

/// The server's settings.
#[derive(Clone, Debug)]
pub struct ModelServer {
    /// If set, `/v1/…` requires it as a bearer token, like vLLM with `--api-key`.
    pub api_key: Option<Secret<String>>,
    /// The time between the words of a stream.
    pub pace: Duration,
}

impl Default for ModelServer {
    fn default() -> Self {
        Self { api_key: None, pace: Duration::from_millis(20) }
    }
}

/// Serves the default server until `stop`. Fails only if the listener cannot be handed to the
/// runtime.
pub async fn serve(listener: std::net::TcpListener, stop: watch::Receiver<bool>) -> io::Result<()> {
    ModelServer::default().serve(listener, stop).await
}

impl ModelServer {
    /// Serves until `stop`. Fails only if the listener cannot be handed to the runtime.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = Arc::new(self);
        let handler = move |request| {
            let server = Arc::clone(&server);
            async move { server.respond(request).await }
        };
        side_listener::serve(listener, LIMITS, stop, handler).await;
        Ok(())
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<ModelBody> {
        let path = request.uri().path();
        if path.starts_with("/v1") && !self.is_authorized(request.headers()) {
            return json_response(StatusCode::UNAUTHORIZED, &json!({ "error": "Unauthorized" }));
        }
        let Some(route) = DemoRoute::of(request.method(), path) else {
            return json_response(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" }));
        };
        let (dialect, kind, model, stream) = match route {
            DemoRoute::Health => return Response::new(Either::Left(Full::default())),
            DemoRoute::Models => return json_response(StatusCode::OK, &shapes::models(&MODELS)),
            DemoRoute::Embeddings => (DemoDialect::OpenAi, None, None, None),
            DemoRoute::Generate { dialect, kind, model, stream } => {
                (dialect, Some(kind), model.map(str::to_owned), stream)
            }
        };
        match read(request).await {
            Ok(request) => self.reply(&request.with_path(model, stream), kind, dialect).await,
            Err(why) => error_response(StatusCode::BAD_REQUEST, &why),
        }
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.api_key else { return true };
        let sent =
            headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        sent == Some(key.expose().as_bytes())
    }

    async fn reply(
        &self,
        request: &DemoRequest,
        kind: Option<Kind>,
        dialect: DemoDialect,
    ) -> Response<ModelBody> {
        let model = request.model.as_deref().unwrap_or(DEMO);
        match model {
            DEMO | CUT => {}
            SLOW => sleep(SLOW_WAIT).await,
            BROKEN => {
                return error_response(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "demo-broken always fails",
                );
            }
            _ => {
                return error_response(
                    StatusCode::NOT_FOUND,
                    &format!("The model `{model}` does not exist."),
                );
            }
        }
        let Some(kind) = kind else {
            return match shapes::embeddings(request, model) {
                Ok(embeddings) => json_response(StatusCode::OK, &embeddings),
                Err(why) => error_response(StatusCode::BAD_REQUEST, why),
            };
        };
        let reply = match Reply::to(request, kind, model) {
            Ok(reply) => reply,
            Err(why) => return error_response(StatusCode::BAD_REQUEST, why),
        };
        let cut = model == CUT;
        match (dialect, reply.stream) {
            (DemoDialect::OpenAi, true) => self.stream(reply.events(), cut, SSE),
            (DemoDialect::Azure, true) => {
                let mut events = reply.events();
                events.insert(0, StreamEvent::immediate(reply.prompt_filter()));
                self.stream(events, cut, SSE)
            }
            (DemoDialect::Bedrock, true) => self.stream(bedrock::frames(&reply), cut, EVENT_STREAM),
            (DemoDialect::Bedrock, false) => json_response(StatusCode::OK, &bedrock::full(&reply)),
            (_, false) if cut => self.cut_short(&reply.full()),
            (_, false) => json_response(StatusCode::OK, &reply.full()),
        }
    }

    fn stream(
        &self,
        events: Vec<StreamEvent>,
        cut: bool,
        content_type: &'static str,
    ) -> Response<ModelBody> {
        let sent = if cut { events.len() / 2 } else { events.len() };
        let piece = |event: StreamEvent| Piece {
            delay: if event.is_paced { self.pace } else { Duration::ZERO },
            data: Ok(event.data),
        };
        let mut pieces: VecDeque<_> = events.into_iter().take(sent).map(piece).collect();
        if cut {
            pieces.push_back(Piece { delay: self.pace, data: Err(ConnectionCut) });
        }
        paced_response(pieces, content_type)
    }

    /// Sends half of a JSON body, then closes the connection.
    fn cut_short(&self, value: &Value) -> Response<ModelBody> {
        let text = Bytes::from(value.to_string());
        let half = text.slice(..text.len() / 2);
        // without the delay hyper would close the connection before it wrote the half
        let pieces = [
            Piece { delay: Duration::ZERO, data: Ok(half) },
            Piece { delay: self.pace, data: Err(ConnectionCut) },
        ];
        paced_response(pieces.into(), "application/json")
    }
}

/// Reads and parses the body, bounded in size and time. Fails with the message of a 400.
async fn read(request: Request<Incoming>) -> Result<DemoRequest, String> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| "the body did not arrive in time".to_owned())?;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

type ModelBody = Either<Full<Bytes>, PacedBody>;

fn json_response(status: StatusCode, value: &Value) -> Response<ModelBody> {
    let mut response = Response::new(Either::Left(Full::new(value.to_string().into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error_response(status: StatusCode, message: &str) -> Response<ModelBody> {
    json_response(status, &shapes::error(status, message))
}

fn paced_response(pieces: VecDeque<Piece>, content_type: &'static str) -> Response<ModelBody> {
    let mut response = Response::new(Either::Right(PacedBody { pieces, timer: None }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A piece of a body, sent after a delay.
#[derive(Debug)]
struct Piece {
    delay: Duration,
    data: Result<Bytes, ConnectionCut>,
}

/// A body in pieces.
#[derive(Debug)]
struct PacedBody {
    pieces: VecDeque<Piece>,
    /// The delay of the first piece.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The error on which hyper closes the connection without ending the body.
#[derive(Debug)]
struct ConnectionCut;

impl fmt::Display for ConnectionCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("demo-cut ends here")
    }
}

impl std::error::Error for ConnectionCut {}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = ConnectionCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionCut>>> {
        let delay = self.pieces.front().map(|piece| piece.delay);
        if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(delay)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
        Poll::Ready(self.pieces.pop_front().map(|piece| piece.data.map(Frame::data)))
    }
}
