//! Sinks that the embedding program brings, by the names that the configuration has for them.

use delivery::{OpenError, Settings, Sink, Slot};
use std::{collections::HashMap, sync::Arc};

/// Sinks of the program's own. Each takes the place of the `[[sink]]` of its name, whose type is "own".
#[derive(Default)]
pub struct Own(HashMap<String, Box<dyn Sink>>);

impl Own {
    /// Adds a sink for the `[[sink]]` of this name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, sink: impl Sink + 'static) -> Self {
        self.0.insert(name.into(), Box::new(sink));
        self
    }

    /// Every configured sink in its slot: brought, or opened. Blocking.
    ///
    /// # Errors
    /// Those of [`delivery::open`].
    pub(super) fn slots(mut self, sinks: &[Settings]) -> Result<Vec<Arc<Slot>>, OpenError> {
        let slot = |settings: &Settings| match self.0.remove(settings.name.as_str()) {
            Some(own) => Ok(Slot::new(settings.name.clone(), own)),
            None => Slot::open(settings),
        };
        sinks.iter().map(slot).map(|slot| slot.map(Arc::new)).collect()
    }
}
