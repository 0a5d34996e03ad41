//! The body of a delivery: its exact length, and its bytes as often as somebody asks for them.
//!
//! A sink may need the bytes more than once: the signature of an HTTP delivery is computed over the whole body before the
//! body is sent. So a body is opened, like a file, and read from the start each time.
//!
//! Two forms. Most events fit in one piece of memory, and are handed on without another allocation. An event with 100,000
//! accounts comes from a [`Source`] piece by piece, so that it never stands in memory at once.
//!
//! Reading checks the length. A source that gives more or fewer bytes than announced ends with [`BodyError::Length`] instead
//! of its last piece, so that nobody takes the body for complete. An HTTP request would be cut or left hanging otherwise.

use bytes::Bytes;
use futures_util::{Stream, stream::BoxStream};
use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The completed event's JSON.
#[derive(Clone)]
pub struct Body(Form);

#[derive(Clone)]
enum Form {
    Whole(Bytes),
    Streamed { length: u64, source: Arc<dyn Source> },
}

/// Where the pieces of a long body come from.
pub trait Source: Send + Sync {
    /// The pieces from the first one on. Called each time the body is read; every call gives the same bytes.
    fn open(self: Arc<Self>) -> BoxStream<'static, Result<Bytes, BodyError>>;
}

/// Why a body could not be read to its end. Never the fault of the sink that read it.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The source failed, with an error of its own.
    #[error("cannot read the body of the delivery")]
    Source(#[source] Box<dyn StdError + Send + Sync>),
    /// The source gave more or fewer bytes than were announced.
    #[error("the body of the delivery is not as long as announced ({announced} bytes)")]
    Length {
        /// What [`Body::length`] says.
        announced: u64,
    },
}

impl Body {
    /// A body in one piece.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Form::Whole(bytes.into()))
    }

    /// A body of `length` bytes that is read from a source.
    #[must_use]
    pub fn streamed(length: u64, source: Arc<dyn Source>) -> Self {
        Self(Form::Streamed { length, source })
    }

    /// Bytes of the whole body.
    #[must_use]
    pub fn length(&self) -> u64 {
        match &self.0 {
            Form::Whole(bytes) => bytes.len() as u64,
            Form::Streamed { length, .. } => *length,
        }
    }

    /// The bytes, where the body is in one piece.
    #[must_use]
    pub fn as_whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Form::Whole(bytes) => Some(bytes),
            Form::Streamed { .. } => None,
        }
    }

    /// The pieces from the first one on.
    #[must_use]
    pub fn open(&self) -> Pieces {
        let origin = match &self.0 {
            Form::Whole(bytes) => Origin::Whole(Some(bytes.clone())),
            Form::Streamed { source, .. } => Origin::Source(Arc::clone(source).open()),
        };
        Pieces { origin, announced: self.length(), left: self.length(), last: None }
    }
}

/// Says how long the body is and nothing of what is in it, which is personal data.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.length())
    }
}

/// A body that is being read; a stream of its pieces.
pub struct Pieces {
    origin: Origin,
    announced: u64,
    /// Announced bytes that did not come yet.
    left: u64,
    /// The piece that completes the announced length, held back until the source has ended.
    last: Option<Bytes>,
}

enum Origin {
    Whole(Option<Bytes>),
    Source(BoxStream<'static, Result<Bytes, BodyError>>),
    /// Nothing comes any more, because the end was reached or an error was said.
    Ended,
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let wrong_length = BodyError::Length { announced: this.announced };
        let error = loop {
            let source = match &mut this.origin {
                Origin::Whole(bytes) => return Poll::Ready(bytes.take().map(Ok)),
                Origin::Source(source) => source,
                Origin::Ended => return Poll::Ready(None),
            };
            let piece = match ready!(source.as_mut().poll_next(context)) {
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => piece,
                Some(Err(error)) => break Some(error),
                None => break (this.left > 0).then_some(wrong_length),
            };
            let Some(left) = this.left.checked_sub(piece.len() as u64) else { break Some(wrong_length) };
            this.left = left;
            if left > 0 {
                return Poll::Ready(Some(Ok(piece)));
            }
            this.last = Some(piece);
        };
        this.origin = Origin::Ended;
        Poll::Ready(match error {
            Some(error) => Some(Err(error)),
            None => this.last.take().map(Ok),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, Torn};
    use futures_util::StreamExt as _;

    async fn read(body: &Body) -> Result<Vec<u8>, BodyError> {
        let mut joined = Vec::new();
        let mut pieces = body.open();
        while let Some(piece) = pieces.next().await {
            joined.extend_from_slice(&piece?);
        }
        assert!(pieces.next().await.is_none(), "an end is an end");
        Ok(joined)
    }

    #[tokio::test]
    async fn can_be_read_again_and_again() {
        let (delivery, json) = fixture::paged("e1", 3, 2);
        for body in [Body::whole(json.clone()), delivery.body] {
            assert_eq!(body.length(), json.len() as u64);
            assert_eq!(read(&body).await.unwrap(), json);
            assert_eq!(read(&body).await.unwrap(), json);
            assert_eq!(format!("{body:?}"), format!("Body({} bytes)", json.len()));
        }
    }

    #[tokio::test]
    async fn gives_the_error_of_its_source_back() {
        let error = read(&fixture::unreadable("e1", 3, 1).body).await.unwrap_err();
        let BodyError::Source(source) = error else { panic!("{error:?}") };
        assert!(source.downcast::<Torn>().is_ok());
    }

    #[tokio::test]
    async fn another_length_than_announced_is_an_error() {
        let (delivery, json) = fixture::paged("e1", 3, 2);
        let Body(Form::Streamed { source, .. }) = delivery.body else { panic!("in pieces") };
        // A length at which a piece ends: the piece must be held back until it is known to be the last.
        let cut = json.len() as u64 - 5;
        let mut pieces = Body::streamed(cut, source).open();
        let mut came = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            came += piece.len() as u64;
        }
        assert!(came < cut, "{came} of {cut}");
        for by in [-1, 1] {
            let error = read(&fixture::misjudged("e1", by).body).await.unwrap_err();
            assert!(matches!(error, BodyError::Length { .. }), "{by}: {error:?}");
        }
    }
}
