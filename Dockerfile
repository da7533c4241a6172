# One image for the five processes (and the shoal command): `python -m shoal.<service>`.
# No BuildKit needed: Debian's docker.io and docker-compose build it too.

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM python:3.13-slim AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_NO_PROGRESS=1
WORKDIR /app
# What the lock names first: this layer stays while only our own code changes.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --no-install-project --extra node --extra control --extra cli --extra tracing
COPY libs libs
COPY services services
RUN uv sync --frozen --no-dev --no-editable --extra node --extra control --extra cli --extra tracing

FROM python:3.13-slim
# The agent and the proxy speak netlink themselves; for the firewall they run nft.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin shoal
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 SHOAL_LOG=json
USER shoal
ENTRYPOINT ["python", "-m"]
CMD ["shoal.api"]
