# The container image. What it installs is locked by hash; it runs as user 10001, on a read-only root, and writes to /data only.
#   docker build --tag weighbridge .
#   docker run -p 127.0.0.1:8787:8787 -e OPENROUTER_API_KEY -v weighbridge:/data weighbridge
# PYTHON_IMAGE: any Debian image with Python 3.11 or newer in /usr/local. The official ones are built with PGO and LTO.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src
# A tool that stays in this stage: wheels come with symbols for debuggers, a third of what they weigh.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install --yes -qq --no-install-recommends binutils >/dev/null
COPY requirements-image.txt requirements-build.txt ./
RUN python -m venv --without-pip /opt/weighbridge \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --require-hashes --requirement requirements-build.txt \
 && /opt/build/bin/pip --python /opt/weighbridge install --quiet --no-compile --require-hashes --requirement requirements-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY deploy/docker/healthcheck.py /opt/weighbridge/healthcheck.py
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /opt/build/dist . \
 && /opt/build/bin/pip --python /opt/weighbridge install --quiet --no-compile --no-index --no-deps /opt/build/dist/*.whl
# Out goes what only builds or tests Python; then bytecode for all that is left, since a read-only root takes none later.
# hadolint ignore=DL3003
RUN stdlib=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
 && rm -rf /opt/weighbridge/bin/[Aa]ctivate* /usr/local/include /usr/local/share /usr/local/lib/pkgconfig \
 && find /usr/local/bin \( -name 'pip*' -o -name 'idle*' -o -name 'pydoc*' -o -name '*-config' \) -delete \
 && cd "$stdlib" && rm -rf config-* ensurepip idlelib lib2to3 pydoc_data site-packages test tkinter turtle.py turtledemo \
 && find /usr/local /opt/weighbridge \( -name '*.so' -o -name '*.so.*' -o -name 'python3.[0-9]*[0-9]' \) -type f \
      -exec strip --strip-unneeded {} + \
 && find /usr/local -name __pycache__ -type d -prune -exec rm -rf {} + \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$stdlib" /opt/weighbridge/lib \
 && mkdir /opt/state \
 && mkdir --mode 700 /opt/state/data

FROM ${PYTHON_IMAGE} AS root
# What a package manager needs goes, and whatever could raise a process's rights. The list of packages stays, for scanners.
# hadolint ignore=SC2114
RUN rm -rf /usr/local /usr/bin/perl* /usr/lib/*-linux-gnu/perl* /usr/share/perl* /usr/bin/apt* /usr/lib/apt /var/lib/apt /var/cache \
      /usr/lib/*-linux-gnu/libapt-* /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man /usr/share/lintian /var/log \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && echo 'weighbridge:x:10001:10001::/data:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'weighbridge:x:10001:' >> /etc/group
COPY --from=build /usr/local /usr/local
COPY --from=build /opt/weighbridge /opt/weighbridge

FROM scratch
# The whole of a tree that was cut down on purpose: layers would still carry what it lost.
# hadolint ignore=DL3067
COPY --from=root / /
COPY --from=build --chown=10001:10001 /opt/state /
# 7 s to drain: `docker stop` kills after 10. Where more is granted (stop_grace_period, terminationGracePeriodSeconds), set more.
ENV PATH=/opt/weighbridge/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    WEIGHBRIDGE_HOST=0.0.0.0 \
    WEIGHBRIDGE_ALLOWED_HOSTS=weighbridge \
    WEIGHBRIDGE_STATE_DIR=/data \
    WEIGHBRIDGE_DRAIN_TIMEOUT=7
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-IS", "/opt/weighbridge/healthcheck.py"]
# The kernel drops a signal that a container's first process does not catch yet; a blocked one waits until it does.
ENTRYPOINT ["env", "--block-signal=TERM", "weighbridge"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Weighbridge" \
      org.opencontainers.image.description="A proxy and team gateway for the Responses API: passes every byte, weighs every token" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
