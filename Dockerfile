# A node in a container. Builds with and without BuildKit, on the official slim image or on any with Python 3.11 or newer:
#
#   docker build -t erlmesh .
#
# Without a registry: `make image`, which brings the wheels and, where nothing can be pulled, a base of Debian packages.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
LABEL erlmesh=build
COPY pyproject.toml README.md LICENSE docker/install.sh docker/wheelhouse* /erlmesh/
COPY src /erlmesh/src
RUN sh /erlmesh/install.sh /erlmesh /opt/erlmesh

# What changes comes last, so that a second build has all the rest already. What installs programs is not left in the base.
FROM ${BASE_IMAGE}
LABEL erlmesh=node
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* \
 && echo 'node:x:10001:10001:node:/var/lib/node:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'node:x:10001:' >> /etc/group \
 && mkdir -p /var/lib/node && chmod 700 /var/lib/node && chown 10001:10001 /var/lib/node

# The name is the container's host name at the address that others reach it by. No cookie is in here, nor may one be.
ENV PATH=/opt/erlmesh/bin:$PATH \
    HOME=/var/lib/node \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROMPT_TOOLKIT_NO_CPR=1 \
    ERLMESH_HOST=auto \
    ERLMESH_PORT_MIN=9100 \
    ERLMESH_PORT_MAX=9105 \
    ERLMESH_ALLOW_REMSH=on
USER 10001:10001
WORKDIR /var/lib/node
EXPOSE 4369 9100-9105
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["erlmesh", "health"]
ENTRYPOINT ["erlmesh"]
CMD ["start", "--prompt"]
COPY --from=build /opt/erlmesh /opt/erlmesh
