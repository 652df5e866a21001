//! The sockets: HTTP in and out, and the faults, which happen here and nowhere else.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fake_vault::exchange::{Answer, Asked};
use crate::fake_vault::faults::How;
use crate::fake_vault::kind::Kind;
use crate::fake_vault::{Shared, locked};

/// The most bytes of a request.
const LIMIT: usize = 4 * 1024 * 1024;

/// Accepts connections until the returned token is cancelled; then they all end.
pub(super) fn spawn(listener: TcpListener, shared: Arc<Shared>) -> CancellationToken {
    let running = CancellationToken::new();
    let stop = running.clone();
    tokio::spawn(async move {
        let accepting = async {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = connection(stream, Arc::clone(&shared));
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop.cancelled() => {}
        }
    });
    running
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers must not wait for acknowledgements.
    let nodelay = stream.set_nodelay(true);
    let (Ok(()), Ok(socket)) = (nodelay, stream.as_fd().try_clone_to_owned()) else { return };
    let socket = Arc::new(socket);
    let service = service_fn(move |request| {
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        async move { answer(request, &shared, &socket).await }
    });
    // A client that goes away is its own business.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// An error closes the connection without an answer.
async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    socket: &OwnedFd,
) -> Result<Response<Body>, std::io::Error> {
    let Some(asked) = asked(request).await else {
        return Ok(response(&Answer::bad_request("failed to parse JSON input")));
    };
    let kind = Kind::of(&asked.path);
    shared.counts.send_modify(|counts| counts.came(kind));
    let how = locked(&shared.faults).take(kind, &asked.path);
    let usual = || {
        let answer = locked(&shared.vault).answer(&asked);
        shared.counts.send_modify(|counts| counts.was_answered(kind));
        answer
    };
    Ok(match how {
        None => response(&usual()),
        Some(How::Latency(wait)) => {
            tokio::time::sleep(wait).await;
            response(&usual())
        }
        Some(How::Hang) => std::future::pending().await,
        Some(How::Reset) => {
            // Closing with nothing to linger for sends RST.
            let now = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(socket, sockopt::Linger, &now)?;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Some(How::Status { code, said, retry_after }) => {
            let mut response = response(&Answer::error(code, &said));
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            response
        }
        Some(How::Sealed) => response(&Answer::error(503, "Vault is sealed")),
        Some(How::Truncated) => truncated(&usual()),
        Some(How::Oversized(bytes)) => {
            let padding = "x".repeat(bytes);
            response(&Answer::data(serde_json::json!({ "padding": padding })))
        }
        Some(How::Garbage(page)) => Response::new(Body::from(page)),
    })
}

async fn asked(request: Request<Incoming>) -> Option<Asked> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(Body::new(body), LIMIT).await.ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
    let header = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let url = reqwest::Url::parse(&format!("http://v{}", parts.uri)).ok()?;
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let decoded = reqwest::Url::path(&url).strip_prefix("/v1/")?.to_owned();
    let list = query.get("list").is_some_and(|value| value == "true");
    let method = match parts.method.as_str() {
        "PUT" => "POST",
        "GET" if list => "LIST",
        other => other,
    };
    Some(Asked {
        method: method.to_owned(),
        namespace: header(&parts.headers, "x-vault-namespace")
            .map(|name| name.trim_matches('/').to_owned())
            .unwrap_or_default(),
        path: unescaped(&decoded),
        query,
        token: header(&parts.headers, "x-vault-token"),
        body,
    })
}

fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text(answer: &Answer) -> String {
    if answer.body.is_null() { String::new() } else { format!("{}\n", answer.body) }
}

fn response(answer: &Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(text(answer)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// Promises the whole answer and sends half of it.
fn truncated(answer: &Answer) -> Response<Body> {
    let text = text(answer);
    let half = text.get(..text.len() / 2).unwrap_or_default();
    let parts = [
        Ok(Bytes::copy_from_slice(half.as_bytes())),
        Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe)),
    ];
    let mut response = Response::new(Body::from_stream(tokio_stream::iter(parts)));
    response.headers_mut().insert("content-length", text.len().into());
    response
}
