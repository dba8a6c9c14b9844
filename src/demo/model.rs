//! The demo's model server: OpenAI's API as vLLM speaks it, Azure's and Bedrock's, in this process,
//! with three ways to fail. It is an ordinary HTTP server on a loopback port, so that the demo's
//! gateway does what it does in production.

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
use super::shapes::{self, Ask, Kind, Reply};
use crate::demo::routes::{Door, Wire};
use crate::secret::Secret;
use crate::server::side_listener::{self, ListenerLimits};

/// Answers.
pub const DEMO: &str = "demo";
/// Waits ten minutes before its first byte: longer than any limit.
pub const SLOW: &str = "demo-slow";
/// Answers 500.
pub const BROKEN: &str = "demo-broken";
/// Closes the connection halfway through its answer.
pub const CUT: &str = "demo-cut";

const MODELS: [&str; 4] = [DEMO, SLOW, BROKEN, CUT];
/// How long `demo-slow` thinks.
const SLOW_WAIT: Duration = Duration::from_secs(600);
const EVENTS: &str = "text/event-stream; charset=utf-8";
const FRAMES: &str = "application/vnd.amazon.eventstream";
const MAX_BODY: usize = 64 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The lifetime lets `demo-slow` finish.
const LIMITS: ListenerLimits =
    ListenerLimits { connections: 256, lifetime: Duration::from_secs(900) };

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct ModelServer {
    /// When set, `/v1/…` wants it as a bearer token, as vLLM with `--api-key`.
    pub api_key: Option<Secret<String>>,
    /// The time a word takes in a stream.
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
            async move { server.answer(request).await }
        };
        side_listener::serve(listener, LIMITS, stop, handler).await;
        Ok(())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let path = request.uri().path();
        if path.starts_with("/v1") && !self.admits(request.headers()) {
            return whole(StatusCode::UNAUTHORIZED, &json!({ "error": "Unauthorized" }));
        }
        let Some(door) = Door::of(request.method(), path) else {
            return whole(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" }));
        };
        let (wire, kind, model, stream) = match door {
            Door::Health => return Response::new(Either::Left(Full::default())),
            Door::Models => return whole(StatusCode::OK, &shapes::models(&MODELS)),
            Door::Embeddings => (Wire::OpenAi, None, None, None),
            Door::Generate { wire, kind, model, stream } => {
                (wire, Some(kind), model.map(str::to_owned), stream)
            }
        };
        match read(request).await {
            Ok(ask) => self.reply(&ask.at(model, stream), kind, wire).await,
            Err(fault) => refuse(StatusCode::BAD_REQUEST, &fault),
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.api_key else { return true };
        let sent =
            headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        sent == Some(key.expose().as_bytes())
    }

    async fn reply(&self, ask: &Ask, kind: Option<Kind>, wire: Wire) -> Response<Answer> {
        let model = ask.model.as_deref().unwrap_or(DEMO);
        match model {
            DEMO | CUT => {}
            SLOW => sleep(SLOW_WAIT).await,
            BROKEN => {
                return refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "demo-broken fails, as its name says",
                );
            }
            _ => {
                return refuse(
                    StatusCode::NOT_FOUND,
                    &format!("The model `{model}` does not exist."),
                );
            }
        }
        let Some(kind) = kind else {
            return match shapes::embeddings(ask, model) {
                Ok(embeddings) => whole(StatusCode::OK, &embeddings),
                Err(fault) => refuse(StatusCode::BAD_REQUEST, fault),
            };
        };
        let reply = match Reply::to(ask, kind, model) {
            Ok(reply) => reply,
            Err(fault) => return refuse(StatusCode::BAD_REQUEST, fault),
        };
        let cut = model == CUT;
        match (wire, reply.stream) {
            (Wire::OpenAi, true) => self.stream(reply.events(), cut, EVENTS),
            (Wire::Azure, true) => {
                let mut events = reply.events();
                events.insert(0, (false, reply.prompt_filter()));
                self.stream(events, cut, EVENTS)
            }
            (Wire::Bedrock, true) => self.stream(bedrock::frames(&reply), cut, FRAMES),
            (Wire::Bedrock, false) => whole(StatusCode::OK, &bedrock::whole(&reply)),
            (_, false) if cut => self.cut_short(&reply.whole()),
            (_, false) => whole(StatusCode::OK, &reply.whole()),
        }
    }

    fn stream(
        &self,
        events: Vec<(bool, Bytes)>,
        cut: bool,
        content_type: &'static str,
    ) -> Response<Answer> {
        let sent = if cut { events.len() / 2 } else { events.len() };
        let pace = |(thinks, event)| (if thinks { self.pace } else { Duration::ZERO }, Ok(event));
        let mut pieces: VecDeque<_> = events.into_iter().take(sent).map(pace).collect();
        if cut {
            pieces.push_back((self.pace, Err(Cut)));
        }
        paced(pieces, content_type)
    }

    /// Half of a JSON body, then the end of the connection.
    fn cut_short(&self, value: &Value) -> Response<Answer> {
        let text = Bytes::from(value.to_string());
        let half = text.slice(..text.len() / 2);
        // without the wait hyper would close before it wrote
        paced([(Duration::ZERO, Ok(half)), (self.pace, Err(Cut))].into(), "application/json")
    }
}

/// The body, bounded in size and time; what is wrong with it otherwise.
async fn read(request: Request<Incoming>) -> Result<Ask, String> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| "the body did not arrive in time".to_owned())?;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

type Answer = Either<Full<Bytes>, Paced>;

fn whole(status: StatusCode, value: &Value) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::new(value.to_string().into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Answer> {
    whole(status, &shapes::fault(status, message))
}

fn paced(pieces: Pieces, content_type: &'static str) -> Response<Answer> {
    let mut response = Response::new(Either::Right(Paced { pieces, wait: None }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

type Pieces = VecDeque<(Duration, Result<Bytes, Cut>)>;

/// A body in pieces, each after its wait.
#[derive(Debug)]
struct Paced {
    pieces: Pieces,
    wait: Option<Pin<Box<Sleep>>>,
}

/// What tells hyper to close the connection without ending the body.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("demo-cut ends here")
    }
}

impl std::error::Error for Cut {}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(wait) =
            self.pieces.front().map(|(wait, _)| *wait).filter(|wait| !wait.is_zero())
        {
            let sleeping = self.wait.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(sleeping.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(self.pieces.pop_front().map(|(_, piece)| piece.map(Frame::data)))
    }
}
