#!/bin/sh
# Builds the program for shipping: with the list of what it was built of inside (cargo auditable), and the same bytes in whatever
# folder. Further arguments are cargo's, such as --target aarch64-unknown-linux-gnu.
set -eu
cd "$(dirname "$0")/.."
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Paths that compilers write down, of code in C (assertions) as in Rust (panics).
export RUSTFLAGS="--remap-path-prefix=$PWD=/linxo-webhook --remap-path-prefix=$cargo_home=/cargo"
export CFLAGS="-ffile-prefix-map=$PWD=/linxo-webhook -ffile-prefix-map=$cargo_home=/cargo"
export CXXFLAGS="$CFLAGS"
exec cargo auditable build --release --locked "$@"
