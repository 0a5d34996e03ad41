//! A disk with a volatile cache: `volatile BACKING MOUNT SEED`.
//!
//! What is below the folder BACKING is shown at MOUNT. Everything that is done there is kept in memory. When the standard input
//! ends, the power is cut: BACKING gets what a disk would have then, and the program ends. Whoever still uses the mount gets
//! errors from then on.
//!
//! Only what was synced is sure to be in BACKING. What a cut leaves of the rest is decided by chance, from SEED; `disk` has the
//! rules. One large file in BACKING makes a block device of it: with a loop device on it and a file system on that, a sync
//! is the flush that the file system sends.

mod disk;
mod mount;

use disk::Disk;
use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [backing, mount, seed] = arguments.as_slice() else { return Err("usage: volatile BACKING MOUNT SEED".into()) };
    let (backing, seed) = (PathBuf::from(backing), seed.parse()?);
    let disk = Arc::new(Mutex::new(Disk::load(&backing)?));
    let session = mount::mount(Arc::clone(&disk), mount)?;
    writeln!(io::stdout(), "mounted")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    // Held to the end: nothing is done any more.
    let disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
    disk.cut(&backing, &mut fastrand::Rng::with_seed(seed))?;
    // No goodbye: to unmount would write what the system still holds.
    std::mem::forget(session);
    std::process::exit(0)
}
