# One image for controller and worker, of what they need to run: no compiler, no pip, no devcluster, not root. Everything that is
# not Debian's comes from the lock, its hashes checked.
#   make image     tagged and labelled with the version, from jobcast/__init__.py
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-image.lock /src/
RUN python -m venv --without-pip /app/.venv \
    && python -m pip --python /app/.venv/bin/python install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes \
       -r /src/requirements-image.lock
# What nobody here asks for: zstandard's second backend, colours for source code in languages but Python, what Python has for developers, debugging symbols.
RUN cd /app/.venv/lib/python3.11/site-packages \
    && rm -rf zstandard/_cffi* \
    && find pygments/lexers -name '[a-z]*.py' ! -name python.py -delete \
    && cd /usr/local/lib/python3.11 \
    && rm -rf config-* distutils ensurepip idlelib lib2to3 lib-dynload/_test* pydoc_data site-packages/* test tkinter turtledemo \
       ../../bin/pip* ../../include \
    && find /app /usr/local/lib -name '*.so*' -type f -exec strip --strip-unneeded {} +
COPY jobcast /app/jobcast
COPY controller /app/controller
COPY worker /app/worker
COPY pyproject.toml /app/
# The command, as the installed package has it, for `kubectl exec`.
RUN printf '%s\n' '#!/app/.venv/bin/python' 'from jobcast.cli import main' 'main()' > /app/.venv/bin/jobcast \
    && chmod 755 /app/.venv/bin/jobcast
# No bytecode is written where it runs, and the base image has none: each start would compile all of it, seconds of CPU.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app /usr/local/lib/python3.11

FROM debian:bookworm-slim
# What Python is linked to, and whom to trust.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libexpat1 libffi8 libssl3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local /usr/local
COPY --from=build /app /app
# Without a name, Celery warns of the user, and a node takes root's group for its.
RUN ldconfig && groupadd --gid 10001 jobcast && useradd --uid 10001 --gid 10001 --no-create-home jobcast
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="jobcast" \
      org.opencontainers.image.description="Reliable events for Kubernetes Jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# /handlers is where HANDLERS are looked for, mounted or copied there (examples/handlers).
ENV PATH=/app/.venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app:/handlers PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
# A number, so that runAsNonRoot can be checked without /etc/passwd.
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "controller"]
