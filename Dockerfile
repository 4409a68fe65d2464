# Lipwire on CPUs: no torch, no compiler, an unprivileged user, a root file system that may be
# read-only.
#
#   docker build -t lipwire .
#
# docs/deployment.md says how to run it. The base is the Debian whose Python the tests run on.
# Where pip needs an index or certificate of your own: --secret id=pip,src=pip.conf

FROM debian:bookworm-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/lipwire
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# The packages first: a change of the source leaves their layer as it is.
COPY pyproject.toml ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -c "import tomllib; \
        print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/requirements.txt \
    && /opt/lipwire/bin/pip install --requirement /tmp/requirements.txt
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/lipwire/bin/pip install --no-deps .

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Lipwire" \
    org.opencontainers.image.description="Real-time lip sync over WebRTC" \
    org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 lipwire \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /var/lib/lipwire --no-create-home \
        --shell /usr/sbin/nologin lipwire \
    && install -d -o lipwire -g lipwire -m 0700 /var/lib/lipwire /var/cache/lipwire
COPY --from=build /opt/lipwire /opt/lipwire
COPY deploy/healthcheck.py /opt/lipwire/healthcheck.py

# 0.0.0.0 is what makes the server ask for tokens, as `lipwire serve` does anywhere.
ENV PATH=/opt/lipwire/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/lipwire \
    XDG_CONFIG_HOME=/var/lib \
    XDG_DATA_HOME=/var/lib \
    XDG_CACHE_HOME=/var/cache \
    LIPWIRE_HOST=0.0.0.0 \
    LIPWIRE_UDP_PORTS=50000-50049 \
    LIPWIRE_LOG_FORMAT=json
# By number: Kubernetes' runAsNonRoot trusts no names.
USER 10001:10001
WORKDIR /var/lib/lipwire
# The token secret, uploaded avatars and models; compiled graphs, which depend on the processor.
VOLUME ["/var/lib/lipwire", "/var/cache/lipwire"]
EXPOSE 8080/tcp 50000-50049/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "/opt/lipwire/healthcheck.py"]
ENTRYPOINT ["lipwire"]
CMD ["serve"]
