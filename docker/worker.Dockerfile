# The worker's image: CUDA's runtime and the build of torch for it. CUDA's big libraries come with torch's wheels,
# so the base is the small flavour. For machines without a GPU:
#   docker build -f docker/worker.Dockerfile --build-arg BASE=ubuntu:24.04 --build-arg TORCH_BACKEND=cpu .
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${BASE} AS build
ARG TORCH_BACKEND=
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY docker docker
COPY client client
COPY api api
COPY core core
COPY jobs jobs
COPY worker worker
RUN docker/install.sh /opt/ladapress worker "${TORCH_BACKEND}"

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home ladapress \
    && install -d -o ladapress -g ladapress /data /signing /hooks
COPY --from=build /opt/ladapress /opt/ladapress
ENV PATH=/opt/ladapress/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LADAPRESS_DATA_DIR=/data
WORKDIR /data
USER 10001
CMD ["python", "-m", "worker"]
