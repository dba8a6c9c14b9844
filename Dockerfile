# A static binary on an empty image, as an unprivileged user. Works with a read-only root file system and any UID:
# Weir writes no file.
FROM docker.io/library/rust:1.95-alpine3.22 AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .
RUN cargo build --release --locked && strip target/release/weir

FROM scratch
COPY --from=build /src/target/release/weir /weir
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 5052 8082
HEALTHCHECK --interval=10s --timeout=3s CMD ["/weir", "healthcheck"]
ENTRYPOINT ["/weir"]
CMD ["serve", "--config", "/etc/weir/weir.toml"]
