# The API's image: no torch, numpy or pyarrow in it; tests/test_architecture.py holds that it needs none.
# Build from the repository's root: docker build -f docker/api.Dockerfile -t ladapress-api .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY docker docker
COPY client client
COPY api api
COPY core core
COPY jobs jobs
COPY worker worker
RUN docker/install.sh /opt/ladapress api

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home ladapress \
    && install -d -o ladapress -g ladapress /data /keys /hooks
COPY --from=build /opt/ladapress /opt/ladapress
ENV PATH=/opt/ladapress/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    LADAPRESS_DATA_DIR=/data LADAPRESS_HOST=0.0.0.0 LADAPRESS_PORT=8642
WORKDIR /data
USER 10001
EXPOSE 8642
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8642/healthz', timeout=4)"]
CMD ["python", "-m", "api"]
