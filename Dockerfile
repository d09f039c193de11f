# syntax=docker/dockerfile:1
# One image for the server, the deployment and the workers: the same Prefect on both ends. Two targets:
#
#     docker build --target cpu  --tag faceshards:cpu .
#     docker build --target cuda --tag faceshards:cuda .
#
# Both take torch from PyPI, whose wheel runs on the CPU and brings its own CUDA libraries: the targets share every layer
# below them, and what runs is what was tested. PyTorch's own index has a build without CUDA, some gigabytes smaller; it is
# another registry to trust, so it is for you to choose, by TORCH_INDEX in .env for docker-compose.yml, or:
#
#     docker build --target cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu --tag faceshards:cpu .
FROM python:3.11-slim-bookworm AS wheels

# All that the wheels want from the system: opencv-python's window code links OpenGL and GLib.
# Debian's security updates replace versions, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app

# The wheels, gigabytes of them, in a layer of their own, which is rebuilt only when these files change. README.md is
# package metadata that is not needed here; an empty file keeps an edit of it from making a new image.
ARG TORCH_INDEX=https://pypi.org/simple
COPY pyproject.toml constraints.txt LICENSE THIRD-PARTY.md ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md \
    && sed --quiet --regexp-extended 's/^ *"(torch(vision)?[<>=][^"]*)".*/\1/p' pyproject.toml > /tmp/torch.txt \
    && pip install --index-url "$TORCH_INDEX" --constraint constraints.txt --requirement /tmp/torch.txt \
    && pip install --constraint constraints.txt --editable '.[all,server]' \
    && rm /tmp/torch.txt


FROM wheels AS code

# Editable, so that /app is the checkout that prefect.yaml and pyproject.toml are read in; again, now with the packages.
COPY . .
RUN pip install --no-cache-dir --no-deps --editable .

# compose chooses the user, who may have no home, no name and no right to write but in /tmp: Prefect's user interface is
# unpacked there instead of into site-packages. The state that matters is in PostgreSQL.
ENV HOME=/tmp \
    LOGNAME=faceshards \
    DO_NOT_TRACK=1 \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/tmp/prefect/ui \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 1000:1000

CMD ["faceshards", "--help"]


# The driver comes from the host, by the NVIDIA Container Toolkit; these two ask it for what torch needs.
FROM code AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility


# Last, so that a build without --target makes it.
FROM code AS cpu
