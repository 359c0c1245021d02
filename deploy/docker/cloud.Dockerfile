# syntax=docker/dockerfile:1
# The cloud: broker, coordinator with the operator of Kubernetes, the cloud's agent and its workers. Build it from the
# root of the repository:
#
#     docker buildx build -f deploy/docker/cloud.Dockerfile --platform linux/amd64,linux/arm64 -t heliograph-cloud .

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN PYTHON=/usr/local/bin/python3 deploy/make-runtime cloud /opt/heliograph

FROM python:3.11-slim-bookworm
# The number, and not the name: Kubernetes' runAsNonRoot can check a number alone.
RUN groupadd --gid 64110 heliograph \
    && useradd --uid 64110 --gid 64110 --home-dir /var/lib/heliograph --create-home --shell /usr/sbin/nologin heliograph
COPY --from=build /opt/heliograph /opt/heliograph
ENV PATH=/opt/heliograph/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
USER 64110:64110
WORKDIR /var/lib/heliograph
VOLUME /var/lib/heliograph
# What is written lies in the volume and in /tmp: docker run --read-only --tmpfs /tmp
ENTRYPOINT ["heliograph"]
CMD ["coordinator"]
