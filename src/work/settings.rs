//! What the worker is told: `[worker]`.

use settings::{number, section};

section! {
    /// Completion and delivery of what is in the inbox.
    pub struct Worker {
        /// Entries worked on at once, for each sink and for completion. A sink that takes many at once, such as a file, is given
        /// so many batches instead, of 4096 entries together. While one entry takes less than 5 ms, twice as many again are leased and
        /// wait. 0: events are only received.
        pub concurrency: usize = number().default("32").between("0", "10000"),
    }
}
