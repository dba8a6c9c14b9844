//! HTTP/1.1 towards clients (RFC 9112): hyper reads requests and writes heads and short responses;
//! the rest of a streamed response is written by us ([`handoff`] has the reasons).

mod chunk_writer;
mod client_io;
mod handoff;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::rt::Write as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::sync::watch;
use tower::Service;

use self::chunk_writer::ChunkWriter;
use self::client_io::ClientIo;
use self::handoff::{ClientFraming, DetachedBody, HyperBody, StreamHandoff};
use super::drain::{Stop, drain_notice};
use crate::relay::RelayBody;
use crate::upstream::Stream;

/// Serves one connection until it ends. Fails when the client or hyper ends it early.
pub(super) async fn serve<S>(
    stream: Stream,
    stack: S,
    http: http1::Builder,
    stop: watch::Receiver<Stop>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send>
        + Clone,
{
    let handoff = Arc::new(StreamHandoff::default());
    let mut io = ClientIo::new(stream, Arc::clone(&handoff));
    while let Some((mut detached, returned)) =
        serve_until_stream(io, &stack, &http, &handoff, &stop).await?
    {
        io = returned;
        let mut writer = ChunkWriter::new(detached.chunked);
        poll_fn(|cx| writer.poll(cx, &mut io, &mut detached.body)).await?;
        if !detached.keep_alive {
            poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await?;
            break;
        }
    }
    Ok(())
}

/// Lets hyper serve requests with short responses, until one has a stream to write (returned with
/// the socket) or the connection ends (`None`). A function of its own, so that its state is not
/// part of an open stream's.
async fn serve_until_stream<S>(
    io: ClientIo,
    stack: &S,
    http: &http1::Builder,
    handoff: &Arc<StreamHandoff>,
    stop: &watch::Receiver<Stop>,
) -> Result<Option<(Box<DetachedBody>, ClientIo)>, hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send>
        + Clone,
{
    let service = service_fn(|request| respond(stack.clone(), request, handoff, stop));
    let mut serving = http.serve_connection(io, service);
    let ended = tokio::select! {
        biased;
        ended = until_detached(&mut serving, handoff) => ended,
        () = drain_notice(stop.clone(), Stop::Soon) => {
            Pin::new(&mut serving).graceful_shutdown();
            until_detached(&mut serving, handoff).await
        }
    };
    let Some(detached) = ended? else { return Ok(None) };
    let parts = serving.into_parts();
    let mut io = parts.io;
    io.put_back(parts.read_buf);
    Ok(Some((detached, io)))
}

/// Runs the stack; the body of a streamed response is detached. Once Weir stops, a response carries
/// `connection: close`, so that a client does not send its next request into the close.
async fn respond<S>(
    mut stack: S,
    request: Request<Incoming>,
    handoff: &Arc<StreamHandoff>,
    stop: &watch::Receiver<Stop>,
) -> Result<Response<HyperBody>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible>,
{
    let mut framing = ClientFraming::of(&request);
    let mut response = stack.call(request).await?;
    if stop.has_changed().unwrap_or(true) {
        framing.keep_alive = false;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(handoff.detach(response, framing))
}

/// Runs hyper until its connection ends (`None`) or it has written its part of a streamed response,
/// whose body is returned.
async fn until_detached<F>(
    serving: &mut F,
    handoff: &StreamHandoff,
) -> Result<Option<Box<DetachedBody>>, hyper::Error>
where
    F: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut *serving).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
        Poll::Pending => {
            handoff.take().map_or(Poll::Pending, |detached| Poll::Ready(Ok(Some(detached))))
        }
    })
    .await
}
