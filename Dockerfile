# One image for controller and worker. Built from the lock, hashes checked; no compiler, no devcluster, not root.
FROM python:3.11-slim AS build
COPY requirements-image.lock /src/
RUN python -m venv /app/.venv \
    && /app/.venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
       -r /src/requirements-image.lock \
    && /app/.venv/bin/python -m pip uninstall --yes pip setuptools

FROM python:3.11-slim
LABEL org.opencontainers.image.title="jobcast" \
      org.opencontainers.image.description="Tells the world what happens to evaluation Jobs on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /app/.venv /app/.venv
COPY jobcast /app/jobcast
COPY controller /app/controller
COPY worker /app/worker
COPY pyproject.toml /app/
# No bytecode is written where it runs: without this every start would compile all of ours, a fifth of a second of CPU.
RUN /app/.venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/jobcast /app/controller /app/worker
# /handlers is where HANDLERS are looked for, mounted or copied there (examples/handlers).
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app:/handlers PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
# A number, so that runAsNonRoot can be checked without /etc/passwd.
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "controller"]
