# rlcircuits for the CPU, with the versions of constraints.txt:
#
#     docker build -t rlcircuits .
#     docker run --rm -v "$PWD:/work" rlcircuits rlcircuits compare --pairs release.toml --output out
#
# Dockerfile.cuda is the same for machines with NVIDIA GPUs.

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY rlcircuits ./rlcircuits
# The index of torch has builds without CUDA. pip prefers their version, 2.13.0+cpu, to the 2.13.0 of the package index.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
        ".[images,large,plots,questions,ray,tables]" "ray[default]" pytest

FROM python:3.11.13-slim-bookworm
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 10001 --create-home rlcircuits
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /work
CMD ["rlcircuits", "--help"]
