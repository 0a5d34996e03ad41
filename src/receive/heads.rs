//! Weighs the heads of HTTP/2 requests, before anything else is done with them.
//!
//! A head of 16 KiB may be written in 500 bytes on the wire (HPACK refers to what was said before), and takes three times
//! its size in memory. The library parses every head that has arrived before it hands out the first one, and nothing limits
//! how many fields each has. So a connection may hold `http2_streams` heads for as long as its task has the processor. What
//! is handed out is weighed at once, in that same task: a head with too many fields is emptied, and a large one is paid for
//! from the memory of all bodies, until it is dropped. It is dropped after the checks, before the first byte of the body is
//! awaited.
//!
//! With HTTP/1 the library itself counts fields, and there is one head at a time.

use super::{budget::Budget, problem::Refusal};
use http::{HeaderMap, Request, Uri};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A head up to this size in memory is not paid for: those of good callers are smaller.
const FREE: usize = 4 * 1024;
/// What a field takes in memory beside its name and its value.
const FIELD: usize = 128;

/// The head cannot be taken; an extension of its request.
#[derive(Clone, Debug)]
pub(super) struct Unfit(pub(super) Refusal);

/// Pays for a head; an extension of its request, given back with it.
#[derive(Clone, Debug)]
struct Paid(#[expect(dead_code, reason = "held until it is dropped")] Arc<OwnedSemaphorePermit>);

/// Weighs a head. One that is too heavy is emptied, and says why.
pub(super) fn weigh<B>(request: &mut Request<B>, most_fields: usize, budget: &Budget) {
    let refusal = if request.headers().len() > most_fields {
        Refusal::HeadTooLarge
    } else {
        let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
        let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let size = fields.sum::<usize>() + uri;
        if size <= FREE {
            return;
        }
        match budget.memory(size) {
            Ok(paid) => {
                request.extensions_mut().insert(Paid(Arc::new(paid)));
                return;
            }
            Err(refusal) => refusal,
        }
    };
    *request.headers_mut() = HeaderMap::new();
    *request.uri_mut() = Uri::from_static("/");
    request.extensions_mut().insert(Unfit(refusal));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: usize, value: &str) -> Request<()> {
        let mut request = Request::builder().uri("https://localhost/webhooks/linxo");
        for number in 0..fields {
            request = request.header(format!("x-{number}"), value);
        }
        request.body(()).unwrap()
    }

    fn refusal(request: &Request<()>) -> Option<Refusal> {
        request.extensions().get::<Unfit>().map(|unfit| unfit.0.clone())
    }

    /// (C1) What is too heavy is let go at once, and what is large is paid for as long as it is there.
    #[test]
    fn heads_are_counted_and_paid_for() {
        let budget = Budget::new(1, 16 * 1024);
        let mut usual = request(20, "usual");
        weigh(&mut usual, 100, &budget);
        assert_eq!((refusal(&usual), usual.headers().len(), budget.memory_left()), (None, 20, 16 * 1024));
        let mut many = request(101, "");
        weigh(&mut many, 100, &budget);
        assert_eq!((refusal(&many), many.headers().len()), (Some(Refusal::HeadTooLarge), 0));
        let mut large = request(10, &"x".repeat(1000));
        weigh(&mut large, 100, &budget);
        assert_eq!((refusal(&large), large.headers().len()), (None, 10));
        assert!(budget.memory_left() < 5 * 1024);
        let mut another = request(10, &"x".repeat(1000));
        weigh(&mut another, 100, &budget);
        assert_eq!((refusal(&another), another.headers().len()), (Some(Refusal::BodyMemory), 0));
        drop(large);
        assert_eq!(budget.memory_left(), 16 * 1024);
    }
}
