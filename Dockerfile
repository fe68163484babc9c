# syntax=docker/dockerfile:1
# mmgnn in a container, without root.
#   docker build -t mmgnn .                                  for CPUs
#   docker build -t mmgnn:cuda --build-arg VARIANT=cuda .    for GPUs: torch brings its CUDA, the host its driver
#   docker run --rm -v "$PWD:/work" -u "$(id -u):$(id -g)" mmgnn train launch/demo.yaml
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ARG VARIANT=cpu
ARG EXTRAS=data,arrays,train,minilm,track,sweep,names,pubchem
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE

# Triton and DeepSpeed compile kernels where there are GPUs
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# the largest layer: changes with the pinned torch alone
COPY constraints.txt /src/
RUN case "$VARIANT" in \
      cpu) pip install -c /src/constraints.txt --index-url https://download.pytorch.org/whl/cpu torch ;; \
      cuda) pip install -c /src/constraints.txt torch ;; \
      *) echo "VARIANT=$VARIANT: give cpu or cuda" >&2; exit 2 ;; \
    esac

# all other packages: changes with pyproject.toml
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE /src/
COPY mmgnn_dist/__init__.py mmgnn_dist/version.py /src/mmgnn_dist/
RUN pip install -c /src/constraints.txt "/src[$EXTRAS]" && pip uninstall -y mmgnn_dist

# the package itself
COPY mmgnn_dist /src/mmgnn_dist
COPY launch /src/launch
COPY slurm /src/slurm
RUN pip install --no-deps /src && rm -rf /src

RUN useradd --create-home --uid 1000 mmgnn && install -d -o mmgnn /work
USER mmgnn
WORKDIR /work
ENTRYPOINT ["mmgnn"]
