# syntax=docker/dockerfile:1
# The server as an image: docker build -t carillon .
# No secret belongs in here; CARILLON_AUTH__SECRET and SMTP_PASSWORD come with the container's environment.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches live outside of the layers, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p carillon && \
    install -D target/release/carillon /out/carillon

FROM debian:bookworm-slim
# Roots for TLS to mail servers. The rest of what the server needs is in the binary.
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    groupadd --gid 10001 carillon && \
    useradd --uid 10001 --gid carillon --no-create-home --home-dir /data --shell /usr/sbin/nologin carillon && \
    install -d -o carillon -g carillon -m 0700 /data
COPY --from=build /out/carillon /usr/local/bin/carillon
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
# 8000 public; 8001 internal (publish, metrics, health) and 9505 gRPC: do not publish these beyond trusted networks.
EXPOSE 8000 8001 9505
# SIGTERM, the default, drains; give it time (docker stop -t 60).
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8001 && printf 'GET /live HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["carillon"]
CMD ["--listen", "0.0.0.0:8000", "--internal-listen", "0.0.0.0:8001", "--grpc-listen", "0.0.0.0:9505", "--data-dir", "/data"]
