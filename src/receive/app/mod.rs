//! The public listener as an axum application: the webhook's route, its fallbacks, and the layers around them.
//!
//! ```text
//! Answers    request id, panic -> 500, problem documents, counting, log, `Connection: close` while draining
//! Networks   403 for callers outside of `sender.networks`
//! Router     POST on the path: `accept`; another method: 405; another path: 404
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | POST on the configured path, an event | 200 `accepted`, or `duplicate` for a repeat |
//! | a head with too many fields; one without one good `Host` | 431; 400 |
//! | a connection whose certificates have changed | 503 with `Retry-After` |
//! | a caller outside of `sender.networks` | 403 |
//! | another path, a wrong path secret | 404 |
//! | another method | 405 with `Allow` |
//! | a transfer coding that is not one `chunked` | 400 |
//! | a content encoding | 415 |
//! | more requests, or more memory for bodies, than allowed | 503 with `Retry-After` |
//! | a body over `max_body`, too slow, cut | 413, 408, 400 |
//! | not JSON or no object; without what makes an event | 400; 422 |
//! | the inbox cannot take it, or not in time | 503 with `Retry-After` |
//!
//! Checks are made in this order. The content decides, and not its wrapping: any `Content-Type` is taken, and an odd one is
//! noted with the event as drift. Routing looks at the path alone; a query is ignored and never logged, because people put
//! secrets there.
//!
//! Handlers and extractors only say why they refuse (`Refusal` is a response); `Answers` makes the problem document of it,
//! because that needs the request's id. The layers are types of their own around the router, and not functions inside it
//! (`Router::layer`, `middleware::from_fn`): a layer inside costs eight allocations for each request (decision 0004).

mod accept;
mod answers;
mod asked;
mod body;
mod head;
mod lent;
mod networks;
mod outlive;
mod routes;
mod traced;
mod webhook;

pub(super) use answers::Answering;
pub(super) use routes::{Application, application};
pub(super) use webhook::{Bodies, COMMIT_TIMEOUT, Commits, Webhook};
