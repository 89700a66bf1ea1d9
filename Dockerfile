# The server in a container: one binary on a minimal system, as a user without rights.
#
#   docker build -t nanofaas .
#   docker run -p 8080:8080 -p 8081:8081 -v nanofaas:/data nanofaas
#
# There is no authentication: publish the ports to places that may use them, or put a proxy in front.
#
# What it can run: functions with mode LOCAL, and with mode POOL, whose programs run elsewhere. The process backend refuses to
# start beside a listener that others can reach, as in here, and the image has no interpreters. The watchdog of function
# images lies beside the server, a static binary that runs in any image:
#
#   COPY --from=nanofaas /usr/local/bin/nanofaas-watchdog /usr/local/bin/
#   ENTRYPOINT ["nanofaas-watchdog"]
#
# It answers to localhost and to IP addresses. When others call it by a name (a service of Compose or Kubernetes, a
# domain), say so: docker run -e NANOFAAS_SERVER_ALLOWED_HOSTS=nanofaas,faas.example.org …

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
ARG NANOFAAS_COMMIT=unknown
ENV NANOFAAS_COMMIT=$NANOFAAS_COMMIT
RUN cargo build --release --locked --bin nanofaas
RUN ./deploy/watchdog.sh && cp target/watchdog/nanofaas-watchdog target/release/

FROM docker.io/library/debian:bookworm-slim
# Roots for functions behind https.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin nanofaas
COPY --from=build /build/target/release/nanofaas /build/target/release/nanofaas-watchdog /usr/local/bin/
USER 10001
WORKDIR /data
VOLUME /data
# Inside a container loopback is nobody's address.
ENV NANOFAAS_SERVER_HOST=0.0.0.0 \
    NANOFAAS_MANAGEMENT_HOST=0.0.0.0 \
    NANOFAAS_DATA_DIR=/data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["nanofaas", "serve"]
