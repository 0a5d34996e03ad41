//! The place of a running sink, where it can be exchanged for one with other settings.
//!
//! Whoever delivers holds the slot and not the sink. Each delivery takes the sink that is in the slot when the delivery
//! begins, and ends with it; the next one finds the new sink.

use crate::{
    settings::{OpenError, Settings, open},
    sink::{Delivery, Error, Failure, Sink},
};
use arc_swap::ArcSwap;
use base::names::SinkName;

/// A sink by its configured name, whichever sink that is at the moment.
pub struct Slot {
    name: SinkName,
    sink: ArcSwap<Box<dyn Sink>>,
}

impl Slot {
    /// Opens a configured sink and puts it in a slot of its own. Blocking.
    ///
    /// # Errors
    /// Those of [`open`].
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        Ok(Self::new(settings.name.clone(), open(settings)?))
    }

    /// A slot with a sink in it.
    #[must_use]
    pub fn new(name: SinkName, sink: Box<dyn Sink>) -> Self {
        Self { name, sink: ArcSwap::from_pointee(sink) }
    }

    /// The sink's configured name.
    #[must_use]
    pub fn name(&self) -> &SinkName {
        &self.name
    }

    /// Uses another sink from the next delivery on. What is under way ends with the old one.
    pub fn replace(&self, sink: Box<dyn Sink>) {
        self.sink.store(sink.into());
    }

    /// [`Sink::deliver`]
    ///
    /// # Errors
    /// The sink's.
    ///
    /// # Cancel safety
    /// The sink's.
    pub async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        self.sink.load_full().deliver(delivery).await
    }

    /// [`Sink::deliver_many`]
    ///
    /// # Cancel safety
    /// The sink's.
    pub async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        self.sink.load_full().deliver_many(deliveries).await
    }

    /// [`Sink::batch`]
    #[must_use]
    pub fn batch(&self) -> usize {
        self.sink.load().batch()
    }

    /// [`Sink::server`]
    #[must_use]
    pub fn server(&self) -> Option<(String, u16)> {
        self.sink.load().server().map(|(host, port)| (host.to_owned(), port))
    }

    /// [`Sink::reopen`]
    ///
    /// # Errors
    /// The sink's.
    pub async fn reopen(&self) -> Result<(), Failure> {
        self.sink.load_full().reopen().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use async_trait::async_trait;
    use std::sync::Arc;
    use tokio::sync::{Notify, mpsc};

    /// Says its name when a delivery begins, and ends the delivery when it is told to.
    struct Named {
        name: &'static str,
        begun: mpsc::UnboundedSender<&'static str>,
        go_on: Arc<Notify>,
    }

    #[async_trait]
    impl Sink for Named {
        async fn deliver(&self, _: &Delivery) -> Result<(), Error> {
            self.begun.send(self.name).unwrap();
            self.go_on.notified().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_under_way_ends_with_the_old_sink_and_the_next_delivery_takes_the_new_one() {
        let (begun, mut begins) = mpsc::unbounded_channel();
        let go_on = Arc::new(Notify::new());
        let named = |name| Box::new(Named { name, begun: begun.clone(), go_on: Arc::clone(&go_on) });
        let slot = Arc::new(Slot::new(SinkName::new("app"), named("old")));
        let deliver = || {
            let slot = Arc::clone(&slot);
            tokio::spawn(async move { slot.deliver(&fixture::whole("e1", b"{}")).await })
        };
        let first = deliver();
        assert_eq!(begins.recv().await, Some("old"));
        slot.replace(named("new"));
        go_on.notify_one();
        first.await.unwrap().unwrap();
        let second = deliver();
        assert_eq!(begins.recv().await, Some("new"));
        go_on.notify_one();
        second.await.unwrap().unwrap();
        assert_eq!((slot.name().as_str(), slot.batch()), ("app", 1));
    }
}
