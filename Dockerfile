# Every program of the workflow and the command scbert, in the versions of constraints.txt.
#   docker build --target cpu  --tag scbert:cpu .
#   docker build --target cuda --tag scbert:cuda .        PyTorch with CUDA: gigabytes more, for NVIDIA GPUs
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:$PWD" --workdir "$PWD" scbert:cpu \
#     scbert annotate QUERY.h5ad --out OUT.h5ad
# With Snakemake and Apptainer: docs/running.md. Not in it: the environments of benchmark methods that need
# one of their own (CellTypist).
FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /opt/scbert
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY config/config.yaml config/config.yaml
COPY scbert scbert
CMD ["scbert", "--help"]

FROM base AS cuda
RUN pip install --constraint constraints.txt '.[workflow,explain,compressed]'

# The last one is made by `docker build .`
FROM base AS cpu
RUN pip install --no-deps --constraint constraints.txt \
      --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install --constraint constraints.txt '.[workflow,explain,compressed]'
