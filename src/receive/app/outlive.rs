//! A future that goes on when nobody waits for it any more.

use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::runtime::Handle;

/// Runs in the task of who waits for it. Dropped before its end, it goes on in a task of its own.
///
/// A task from the beginning would cost each request the making of one, and often the waking of another thread, although
/// hardly any caller hangs up.
#[derive(Debug)]
pub(super) struct Outliving<F>(Option<Pin<Box<F>>>)
where
    F: Future<Output: Send> + Send + 'static;

impl<F> Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    pub(super) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<F> Future for Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out meanwhile: after a panic there must be nothing left that could be polled again.
        let Some(mut future) = self.0.take() else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(future);
        }
        polled
    }
}

impl<F> Drop for Outliving<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Duration};
    use tokio::{sync::Notify, time::timeout};

    #[tokio::test]
    async fn what_nobody_waits_for_goes_on() {
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let future = Outliving::new({
            let (go, done) = (Arc::clone(&go), Arc::clone(&done));
            async move {
                go.notified().await;
                done.notify_one();
            }
        });
        assert!(timeout(Duration::from_millis(1), future).await.is_err(), "nobody said go");
        go.notify_one();
        timeout(Duration::from_secs(20), done.notified()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_waited_for_gives_its_value() {
        assert_eq!(
            Outliving::new(async {
                tokio::task::yield_now().await;
                7
            })
            .await,
            7
        );
    }
}
