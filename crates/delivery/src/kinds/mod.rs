//! The kinds of sink: one folder each, and the one list of them.
//!
//! A new kind is a folder with its settings, its sink and its tests, and three lines here: the module, the variant, the arm.

pub mod amqp;
pub mod file;
pub mod http;
pub mod kafka;
pub mod nats;
pub mod own;
pub mod postgres;
pub mod redis;
pub mod stdout;

use crate::{
    opens::{Cause, Init, Opens, Server},
    sink::Sink,
};
use std::{mem, path::Path};

settings::variants! {
    /// Kind of destination.
    pub enum Kind by "type" {
        /// One JSON document a line on standard output.
        Stdout(stdout::Settings) = "stdout",
        /// One JSON document a line, appended to a file and synced before the entry is settled.
        File(file::Settings) = "file",
        /// A POST of each completed event.
        Http(http::Settings) = "http",
        /// A row of PostgreSQL for each event, and if asked one for each account with its latest state.
        Postgres(postgres::Settings) = "postgres",
        /// A message on a topic of Kafka. Not in the usual build: it needs the cargo feature `kafka`.
        Kafka(kafka::Settings) = "kafka",
        /// A message on a subject of NATS, acknowledged by the JetStream stream that keeps it.
        Nats(nats::Settings) = "nats",
        /// A persistent message on an exchange of RabbitMQ (AMQP 0-9-1), confirmed by the broker.
        Amqp(amqp::Settings) = "amqp",
        /// An entry of a Redis stream.
        Redis(redis::Settings) = "redis",
        /// A sink that the program brings which this service is embedded in. The usual program brings none.
        Own(own::Settings) = "own",
    }
}

impl Kind {
    fn settings(&self) -> &dyn Opens {
        match self {
            Self::Stdout(settings) => settings,
            Self::File(settings) => settings,
            Self::Http(settings) => settings,
            Self::Postgres(settings) => settings,
            Self::Kafka(settings) => settings,
            Self::Own(settings) => settings,
            Self::Nats(settings) => settings,
            Self::Amqp(settings) => settings,
            Self::Redis(settings) => settings,
        }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        self.settings().open()
    }

    /// Finds out whether the sink could be opened, and leaves everything as it is.
    pub(crate) fn rehearse(&self) -> Result<(), Cause> {
        self.settings().rehearse()
    }

    /// The file that the sink writes, if it writes one.
    #[must_use]
    pub fn writes(&self) -> Option<&Path> {
        self.settings().writes()
    }

    /// The server that the sink calls, if it calls one.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        self.settings().server()
    }

    /// What the destination needs once, before the first delivery.
    #[must_use]
    pub fn init(&self) -> Option<Init> {
        self.settings().init()
    }

    /// The files that the sink is built from, secrets and what it writes apart.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        self.settings().files()
    }

    /// Whether deliveries are signed, so that the destination can tell them from forged ones.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.settings().is_signed()
    }

    /// Whether a sink with these other settings may take over while this one is still open.
    #[must_use]
    pub fn may_become(&self, other: &Self) -> bool {
        mem::discriminant(self) == mem::discriminant(other) && self.settings().may_change()
    }
}
