//! The client of the vendor's API that is in use, where a reload can exchange it.

use arc_swap::ArcSwapOption;
use linxo::{Client, credentials::FingerprintKey, settings::Linxo};
use std::sync::Arc;

/// The client of the vendor's API that is in use. It may be replaced while the service runs.
#[derive(Debug)]
pub struct Source {
    /// `None` without a `[linxo]` section.
    client: ArcSwapOption<Client>,
    key: FingerprintKey,
    figures: linxo::Figures,
}

impl Source {
    /// With a client for these settings, or without one. Fingerprints of credentials are made under `key`.
    ///
    /// # Errors
    /// Those of [`Client::new`].
    pub fn new(settings: Option<&Linxo>, key: FingerprintKey, figures: linxo::Figures) -> Result<Self, linxo::Error> {
        let client =
            settings.map(|settings| Client::new(settings.clone(), key.clone(), figures.clone())).transpose()?;
        Ok(Self { client: ArcSwapOption::from_pointee(client), key, figures })
    }

    /// The client that is in use.
    #[must_use]
    pub fn client(&self) -> Option<Arc<Client>> {
        self.client.load_full()
    }

    /// A client for other settings, to take the place of the one in use.
    ///
    /// # Errors
    /// Those of [`Client::new`].
    pub fn next(&self, settings: &Linxo) -> Result<Client, linxo::Error> {
        match self.client() {
            Some(used) => used.reconfigured(settings.clone()),
            None => Client::new(settings.clone(), self.key.clone(), self.figures.clone()),
        }
    }

    /// Goes on with another client; what is under way ends with the old one.
    pub fn replace(&self, client: Client) {
        self.client.store(Some(Arc::new(client)));
    }
}
