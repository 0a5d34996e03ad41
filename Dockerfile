# Two stages: build, then a root folder from scratch with the binary, its shared libraries and trusted authorities.
# No shell, no package manager, not root. `deploy/image-check.sh` tries that root folder without a container engine.
#
# Nothing in here is of one kind of machine: `docker buildx build --platform linux/amd64,linux/arm64` builds for both.

# A tag may be filled anew. For an image that can be built again, name what the tag stands for today:
# --build-arg RUST=rust@sha256:... (`docker buildx imagetools inspect rust:1.95.0-slim-bookworm` says it, for all machines).
ARG RUST=rust:1.95.0-slim-bookworm
FROM ${RUST} AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev make ca-certificates \
 && rm -rf /var/lib/apt/lists/*
# Writes into the program what it was built of; the version is that of the Makefile.
RUN cargo install cargo-auditable --locked --version 0.7.7
WORKDIR /build
COPY deploy/build.sh deploy/

# Dependencies first, with an empty program and empty crates: this layer is built again only when a manifest changes.
# rust-toolchain.toml stays out: the image is that toolchain, and the file would make rustup fetch rustfmt and clippy.
COPY Cargo.toml Cargo.lock ./
COPY .cargo/config.toml .cargo/
COPY crates/base/Cargo.toml crates/base/
COPY crates/delivery/Cargo.toml crates/delivery/
COPY crates/double/Cargo.toml crates/double/
COPY crates/event/Cargo.toml crates/event/
COPY crates/inbox/Cargo.toml crates/inbox/
COPY crates/linxo/Cargo.toml crates/linxo/
COPY crates/settings/Cargo.toml crates/settings/
RUN mkdir -p src benches/service && echo 'fn main() {}' | tee src/main.rs > benches/service/main.rs && touch src/lib.rs \
 && for crate in crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
 && deploy/build.sh \
 && rm -r src crates/*/src

COPY askama.toml ./
COPY config config
COPY crates crates
COPY docs/schema docs/schema
COPY src src
# Shown by the metric linxo_webhook_build_info.
ARG BUILD_COMMIT=unknown
# Newer than the empty files, or cargo would keep what it made of those.
RUN find crates src -name '*.rs' -exec touch {} + && deploy/build.sh

COPY deploy/assemble-root.sh deploy/
RUN deploy/assemble-root.sh target/release/linxo-webhook /image \
 && mkdir /owned && mv /image/data /image/certs /owned/

FROM scratch
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /owned/data /data
COPY --from=build --chown=65532:65532 /owned/certs /certs
# The defaults data/, certs/ and config/ are looked for from here.
WORKDIR /
# Large sorts of SQLite go where writing is allowed, so that the root may be read-only.
ENV SQLITE_TMPDIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/linxo-webhook", "health"]
ENTRYPOINT ["/usr/local/bin/linxo-webhook"]
CMD ["serve"]
