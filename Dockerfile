# The server in a container: two static programs and the roots of https, nothing else, as a user without rights.
#
#   docker build -t nanofaas .
#   docker run -p 8080:8080 -p 8081:8081 -v nanofaas:/data nanofaas
#
# `deploy/image.sh` makes the same image without a container engine, and reads from here what the image says of itself. On
# Kubernetes: docs/kubernetes-install.md.
#
# There is no authentication: publish the ports to places that may use them, or put a proxy in front.
#
# What it can run: functions with mode LOCAL, with mode POOL, whose programs run elsewhere, and with the backend k8s, as Pods.
# The process backend refuses to start beside a listener that others can reach, as in here, and the image has no
# interpreters. The watchdog of function images lies beside the server, and runs in any image:
#
#   COPY --from=nanofaas /usr/local/bin/nanofaas-watchdog /usr/local/bin/
#   ENTRYPOINT ["nanofaas-watchdog"]
#
# It answers to localhost and to IP addresses. When others call it by a name (a service of Compose or Kubernetes, a
# domain), say so: docker run -e NANOFAAS_SERVER_ALLOWED_HOSTS=nanofaas,faas.example.org …

FROM docker.io/library/rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates musl-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
ARG NANOFAAS_COMMIT=unknown
ENV NANOFAAS_COMMIT=$NANOFAAS_COMMIT
RUN ./deploy/image.sh --files

FROM scratch
COPY --from=build /build/target/image/files /
# A new volume gets the owner of what it is mounted on.
COPY --from=build --chown=10001:10001 /build/target/image/data /data
USER 10001
WORKDIR /data
VOLUME /data
# Inside a container loopback is nobody's address.
ENV PATH=/usr/local/bin
ENV NANOFAAS_SERVER_HOST=0.0.0.0
ENV NANOFAAS_MANAGEMENT_HOST=0.0.0.0
ENV NANOFAAS_DATA_DIR=/data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["nanofaas"]
CMD ["serve"]
