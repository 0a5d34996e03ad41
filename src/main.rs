//! The `linxo-webhook` binary; everything it does is in the library, where tests can reach it.

fn main() -> std::process::ExitCode {
    linxo_webhook::cli::main()
}

/// Gives memory back to the system after a burst; the system's own allocator keeps it (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
