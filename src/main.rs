//! The `linxo-webhook` binary; everything it does is in the library, where tests can reach it.

fn main() -> std::process::ExitCode {
    linxo_webhook::cli::main()
}
