# The vault in a container, as nobody in particular, with nothing in it but the program and the C library.
#
#   docker build --tag lacuna .
#   docker run --publish 127.0.0.1:50051:50051 \
#     --volume lacuna-data:/var/lib/lacuna --volume lacuna-slot:/var/lib/lacuna-slot \
#     --volume ./lacuna.toml:/etc/lacuna/lacuna.toml:ro lacuna
#
# Back up the first volume, never the second. Nodes of one vault on PostgreSQL share the second.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY . .
RUN cargo build --release --locked --features s3,aws-kms
# Volumes take owner and mode from the folders that they are put over.
RUN install -d -m 0700 /made/var/lib/lacuna /made/var/lib/lacuna-slot && install -d /made/etc/lacuna

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=nonroot:nonroot /made /
COPY --from=build /src/target/release/lacuna /usr/bin/lacuna
USER nonroot
VOLUME ["/var/lib/lacuna", "/var/lib/lacuna-slot"]
EXPOSE 50051
# Health is served over gRPC (grpc.health.v1), for the orchestrator's own probe.
ENTRYPOINT ["/usr/bin/lacuna"]
CMD ["serve", "--config", "/etc/lacuna/lacuna.toml"]
