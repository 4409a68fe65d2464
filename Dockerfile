# Lipwire on CPUs: no torch, no compiler, an unprivileged user, a root file system that may be read-only.
#
#   docker build -t lipwire .
#
# docs/operations.md says how to run it. Its base is the Python that the tests run on, Debian's 3.11.

FROM debian:bookworm-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/lipwire
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# The packages first: a change of the source leaves their layer as it is.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; \
        print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/requirements.txt \
    && /opt/lipwire/bin/pip install --requirement /tmp/requirements.txt
COPY . .
RUN /opt/lipwire/bin/pip install --no-deps .

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 lipwire \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/lipwire --no-create-home \
        --shell /usr/sbin/nologin lipwire \
    && install -d -o lipwire -g lipwire -m 0700 /var/lib/lipwire /var/cache/lipwire
COPY --from=build /opt/lipwire /opt/lipwire
COPY deploy/healthcheck.py /opt/lipwire/healthcheck.py

ENV PATH=/opt/lipwire/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/lipwire \
    XDG_CONFIG_HOME=/var/lib \
    XDG_DATA_HOME=/var/lib \
    XDG_CACHE_HOME=/var/cache \
    LIPWIRE_HOST=0.0.0.0 \
    LIPWIRE_UDP_PORTS=50000-50100 \
    LIPWIRE_LOG_FORMAT=json
USER lipwire
WORKDIR /var/lib/lipwire
# The token secret and uploaded avatars; compiled graphs, which depend on the processor.
VOLUME ["/var/lib/lipwire", "/var/cache/lipwire"]
EXPOSE 8080/tcp 50000-50100/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "/opt/lipwire/healthcheck.py"]
ENTRYPOINT ["lipwire"]
CMD ["serve"]
