//! Reads the body of an event, within its size, its time, and the memory that all bodies may take.

use super::{
    asked::Refused,
    webhook::{Bodies, Webhook},
};
use crate::receive::{budget::Place, problem::Refusal};
use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::time::timeout;

/// Least room that is made for a body of several pieces; more only as it comes, whatever the caller announced.
const FIRST_ROOM: usize = 4 * 1024;

/// A body that was read to its end.
pub(super) struct LimitedBody {
    pub(super) bytes: Bytes,
    /// Held until the commit, whatever was answered meanwhile.
    pub(super) place: Place,
}

impl FromRequest<Arc<Webhook>> for LimitedBody {
    type Rejection = Refused;

    async fn from_request(request: Request, webhook: &Arc<Webhook>) -> Result<Self, Refused> {
        let bodies = &webhook.bodies;
        let mut place = bodies.budget.begin().await?;
        let mut collected = Collected::default();
        let read = bodies.read(request.into_body(), &mut place, &mut collected).await;
        let size = collected.size;
        let bytes = collected.finish();
        match read {
            Ok(()) => Ok(Self { bytes, place }),
            Err(refusal) => Err(Refused { refusal, size: Some(size), body: bytes }),
        }
    }
}

impl Bodies {
    /// Reads a body, and pays for its memory as it comes.
    async fn read(&self, mut body: Body, place: &mut Place, collected: &mut Collected) -> Result<(), Refusal> {
        let limit = self.limit;
        let announced = body.size_hint().lower();
        // With a `Content-Length` this is known before a byte is read.
        if announced > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        let all = async {
            while let Some(frame) = body.frame().await {
                // Trailers mean nothing to us.
                let Ok(data) = frame.map_err(|_broken| Refusal::BodyCut)?.into_data() else { continue };
                collected.size = collected.size.saturating_add(data.len() as u64);
                if collected.size > limit {
                    return Err(Refusal::BodyTooLarge { limit });
                }
                let room = collected.room_with(data.len(), announced, limit);
                place.cover(room)?;
                collected.push(data, room);
            }
            Ok(())
        };
        timeout(self.timeout, all).await.unwrap_or(Err(Refusal::BodyTimeout))
    }
}

/// A body as far as it has come. One that comes in one piece is not copied.
#[derive(Debug, Default)]
struct Collected {
    first: Bytes,
    joined: Vec<u8>,
    /// Bytes that came, including those over the limit.
    size: u64,
}

impl Collected {
    /// Memory that the body takes with `more` bytes: what is needed, and room to grow where it does not come in one piece.
    /// A body never takes more than it announced, or more than is allowed.
    fn room_with(&self, more: usize, announced: u64, limit: u64) -> usize {
        let needed = self.first.len() + self.joined.len() + more;
        let room = self.joined.capacity();
        if needed == more || needed <= room {
            return needed.max(room);
        }
        let most = usize::try_from(if announced > 0 { announced } else { limit }).unwrap_or(usize::MAX);
        needed.saturating_mul(2).max(FIRST_ROOM).min(most).max(needed)
    }

    /// Adds a piece, in `room` bytes of memory altogether.
    fn push(&mut self, data: Bytes, room: usize) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return;
        }
        self.joined.reserve_exact(room.saturating_sub(self.joined.len()));
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.into() }
    }
}
