//! What operators reach: the control socket of this machine, and the page and the API on the admin listener.

use crate::{
    admin::{self, Access, Desk},
    config::Config,
    control,
    observe::metrics::Exposition,
    receive::{Receiver, tls::Listener},
    work::{Gate, Source},
};
use base::error::chain;
use delivery::Slot;
use inbox::Inbox;
use std::{fs, net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What nobody else can have while the service runs. The configured addresses are among it: a socket that was handed over
/// stands for them.
pub(super) fn held(config: &Config, address: SocketAddr, admin: Option<SocketAddr>) -> control::Held {
    let configured = std::iter::once(config.listener.address()).chain(config.admin.address);
    let addresses = std::iter::once(address).chain(admin).chain(configured);
    control::Held {
        addresses: addresses.map(|address| address.to_string()).collect(),
        files: config.sinks.iter().filter_map(|sink| fs::canonicalize(sink.kind.writes()?).ok()).collect(),
    }
}

/// What commands, the page and the API work on. `source` of deliveries stands in the configuration.
pub(super) fn control(
    config: &Config,
    inbox: &Inbox,
    sinks: &[Arc<Slot>],
    (gates, held, api, source): (Vec<Arc<Gate>>, control::Held, Arc<Source>, String),
) -> control::State {
    let sinks = sinks.iter().zip(gates).zip(&config.sinks).map(|((slot, gate), settings)| control::Sink {
        slot: Arc::clone(slot),
        gate,
        kind: settings.kind.word(),
    });
    control::State {
        sinks: sinks.collect(),
        source,
        kept: Arc::clone(&inbox.sinks),
        persons: Arc::clone(&inbox.persons),
        upkeep: Arc::clone(&inbox.upkeep),
        held: Arc::new(held),
        api,
        watch: Arc::clone(&inbox.watch),
        receivers: Arc::clone(&inbox.receivers),
        service: format!("{:016x}", fastrand::u64(..)),
    }
}

/// The socket for commands of this machine. The service does its work without it as well.
pub(super) fn serve(
    config: &Config,
    state: control::State,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let bound = control::bind(&control::path(&config.inbox));
    async move {
        match bound {
            Ok(bound) => bound.serve(state, stop).await,
            Err(error) => {
                tracing::error!(
                    code = "control_socket_missing",
                    error = %chain(&error),
                    "commands cannot reach this service: its control socket could not be made; the service goes on without it"
                );
                stop.cancelled().await;
            }
        }
    }
}

/// Notes what happens, minute by minute, for charts.
pub(super) fn record(
    inbox: &Inbox,
    exposition: &Arc<Exposition>,
    control: &control::State,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    admin::record(Arc::clone(&inbox.charts), Arc::clone(exposition), control.service.clone(), stop)
}

/// What the page and the API work on.
pub(super) fn desk(inbox: &Inbox, control: control::State, receiver: &Arc<Receiver>, access: Access) -> Desk {
    let receiver = Arc::clone(receiver);
    let certificates = move || {
        let own = access.guards().tls().map(|loaded| loaded.certificate.clone());
        let public = (Listener::Public, receiver.certificate());
        std::iter::once(public).chain(own.map(|own| (Listener::Admin, own))).collect()
    };
    Desk { inbox: inbox.clone(), control, certificates: Arc::new(certificates) }
}
