# One image for the server, the deployment and the worker: the same Prefect on both ends.
# The torch in it is PyPI's, which runs on the CPU and on CUDA.
FROM python:3.11-slim-bookworm

# All that the wheels want from the system: opencv-python's window code links OpenGL and GLib.
# Debian's security updates replace versions, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app

# The wheels, gigabytes of them, in a layer of their own: it lasts until pyproject.toml changes.
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/requirements.txt \
    && pip install --requirement /tmp/requirements.txt \
    && rm /tmp/requirements.txt

# The code, last. Editable, so that /app is the checkout that prefect.yaml and pyproject.toml are read in.
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
