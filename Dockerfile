# An erlmesh node in a container. Builds with and without BuildKit, on the official slim image or on any image with Python 3.11
# or newer:
#
#   docker build -t erlmesh .
#
# Without a registry, use `make image`. It downloads the wheels. If it cannot pull an image, it builds a base from Debian
# packages.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
LABEL erlmesh=build
COPY pyproject.toml README.md LICENSE docker/install.sh docker/wheelhouse* /erlmesh/
COPY src /erlmesh/src
RUN sh /erlmesh/install.sh /erlmesh /opt/erlmesh

# The layer that changes most often comes last, so a second build takes the others from the cache. pip is removed from the base.
FROM ${BASE_IMAGE}
LABEL erlmesh=node
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* \
 && echo 'node:x:10001:10001:node:/var/lib/node:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'node:x:10001:' >> /etc/group \
 && mkdir -p /var/lib/node && chmod 700 /var/lib/node && chown 10001:10001 /var/lib/node

# The node is called HOST-NAME@ADDRESS: the container's host name and the address at which other nodes reach it.
# The image contains no cookie. Never put one into it.
ENV PATH=/opt/erlmesh/bin:$PATH \
    HOME=/var/lib/node \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROMPT_TOOLKIT_NO_CPR=1 \
    ERLMESH_HOST=auto \
    ERLMESH_PORT_MIN=9100 \
    ERLMESH_PORT_MAX=9105
USER 10001:10001
WORKDIR /var/lib/node
EXPOSE 4369 9100-9105
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["erlmesh", "health"]
ENTRYPOINT ["erlmesh"]
CMD ["start", "--prompt"]
COPY --from=build /opt/erlmesh /opt/erlmesh
