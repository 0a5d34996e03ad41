//! The body of a completed event: the accounts that the inbox holds, between two texts.
//!
//! In: a reading of the connection's accounts. Out: a [`Body`] that a sink reads page by page, so that a connection with
//! 100,000 accounts never stands in memory at once: one page does.
//!
//! When a page cannot be read, the sink gives the inbox's own error back ([`inbox_error`]), and the loop of the stage does
//! with it what it does with every error of the inbox. The sink is not to blame, so nothing is counted against the sink.

use bytes::Bytes;
use delivery::{Body, BodyError, Source};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use inbox::{Error, ReadingId, Shelf};
use std::sync::Arc;

/// The accounts of a reading, joined by commas, behind `before` and in front of `after`.
///
/// # Errors
/// The inbox's, when the list of pages cannot be read.
pub(super) async fn accounts_between(
    before: Vec<u8>,
    shelf: Arc<dyn Shelf>,
    reading: ReadingId,
    after: Vec<u8>,
) -> Result<Body, Error> {
    let (mut numbers, mut length) = (Vec::new(), 0);
    for (number, bytes) in shelf.pages(reading).await? {
        // A page may hold only accounts that other pages hold too.
        if bytes > 0 {
            numbers.push(number);
            length += bytes;
        }
    }
    let commas = numbers.len().saturating_sub(1);
    length += (before.len() + commas + after.len()) as u64;
    Ok(Body::streamed(length, Arc::new(Pages { before: before.into(), shelf, reading, numbers, after: after.into() })))
}

/// What ended the reading of a body, as an error of the inbox.
pub(super) fn inbox_error(error: BodyError) -> Error {
    match error {
        BodyError::Source(source) => match source.downcast() {
            Ok(error) => *error,
            Err(other) => Error::Store(other),
        },
        // The store holds other pages than it listed.
        length @ BodyError::Length { .. } => Error::Store(length.into()),
    }
}

struct Pages {
    before: Bytes,
    shelf: Arc<dyn Shelf>,
    reading: ReadingId,
    /// Of the pages that hold accounts, in order.
    numbers: Vec<u32>,
    after: Bytes,
}

impl Source for Pages {
    fn open(self: Arc<Self>) -> BoxStream<'static, Result<Bytes, BodyError>> {
        let whole = |text: &Bytes| stream::iter([Ok(text.clone())]);
        let (before, after) = (whole(&self.before), whole(&self.after));
        let pages = stream::iter(0..self.numbers.len()).flat_map(move |index| {
            let comma = stream::iter((index > 0).then(|| Ok(Bytes::from_static(b","))));
            comma.chain(stream::once(Arc::clone(&self).page(index)))
        });
        before.chain(pages).chain(after).boxed()
    }
}

impl Pages {
    async fn page(self: Arc<Self>, index: usize) -> Result<Bytes, BodyError> {
        let Some(number) = self.numbers.get(index) else { return Ok(Bytes::new()) };
        self.shelf.page(self.reading, *number).await.map_err(|error| BodyError::Source(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inbox::double::Double;

    async fn body(pages: &[&'static str], broken: Option<usize>) -> Body {
        let pages = pages.iter().map(|page| Bytes::from_static(page.as_bytes())).collect();
        let inbox = Arc::new(Double::with_pages(pages, broken));
        accounts_between(b"{\"accounts\":[".to_vec(), inbox as _, ReadingId(1), b"]}".to_vec()).await.unwrap()
    }

    async fn read(body: &Body) -> Result<String, BodyError> {
        let mut joined = Vec::new();
        let mut pieces = body.open();
        while let Some(piece) = pieces.next().await {
            joined.extend_from_slice(&piece?);
        }
        Ok(String::from_utf8(joined).unwrap())
    }

    #[tokio::test]
    async fn joins_the_pages_that_hold_accounts_and_knows_the_length_before() {
        for (pages, expected) in [
            (&[][..], "{\"accounts\":[]}"),
            (&["1"], "{\"accounts\":[1]}"),
            (&["1,2", "", "3", "4"], "{\"accounts\":[1,2,3,4]}"),
            (&["", "1"], "{\"accounts\":[1]}"),
        ] {
            let body = body(pages, None).await;
            assert_eq!(body.length(), expected.len() as u64);
            assert_eq!(read(&body).await.unwrap(), expected);
            assert_eq!(read(&body).await.unwrap(), expected, "the second time");
        }
    }

    #[tokio::test]
    async fn the_inboxs_own_error_comes_out_again() {
        let error = read(&body(&["1", "2"], Some(1)).await).await.unwrap_err();
        assert!(matches!(inbox_error(error), Error::Closed));
        assert!(matches!(inbox_error(BodyError::Length { announced: 7 }), Error::Store(_)));
        assert!(matches!(inbox_error(BodyError::Source("other".into())), Error::Store(_)));
    }
}
