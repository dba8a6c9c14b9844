# One binary on Debian's distroless image, as an unprivileged user. Works with a read-only root file system and any
# UID: Weir writes no file. Not musl: its allocator costs CPU per request (src/manual/decisions/operations.rs).
FROM docker.io/library/rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/weir /weir
EXPOSE 5052 8082
HEALTHCHECK --interval=10s --timeout=3s CMD ["/weir", "healthcheck"]
ENTRYPOINT ["/weir"]
CMD ["serve", "--config", "/etc/weir/weir.toml"]
