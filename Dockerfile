# Four images, a stage each. They hold finished static programs and nothing
# else: no shell, no C library, no package. `make images` builds this machine's;
# any builder that knows Dockerfiles builds them for all machines that dist/ has:
#
#   docker buildx build --target tentacle-receiver --platform linux/amd64,linux/arm64 .
#
#   dist/ARCHITECTURE/PROGRAM     the services, by Docker's names of architectures
#   dist/ARCHITECTURE/tentacle/   the command-line programs: one file, two names
#   dist/empty/                   an empty folder: nothing else can make one here
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown

# What all have. Nobody's number: a host seldom has that user.
FROM scratch AS base
ARG VERSION REVISION SOURCE
USER 65532:65532
# Programs of an image are called by their names alone.
ENV PATH=/
LABEL org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.source=$SOURCE \
      org.opencontainers.image.vendor="Tentacle for containers" \
      org.opencontainers.image.licenses=Apache-2.0

FROM base AS tentacle-receiver
ARG TARGETARCH
LABEL org.opencontainers.image.title=tentacle-receiver \
      org.opencontainers.image.description="Buffers what agents send by the Tentacle protocol"
COPY --chown=65532:65532 dist/empty /var/spool/tentacle
COPY dist/$TARGETARCH/tentacle-receiver /tentacle-receiver
# A new volume takes the folder's owner over.
VOLUME /var/spool/tentacle
ENV TENTACLE_DIRECTORY=/var/spool/tentacle TENTACLE_HTTP_ADDR=0.0.0.0:8080
EXPOSE 41121 8080
ENTRYPOINT ["/tentacle-receiver"]

FROM base AS tentacle-proxy
ARG TARGETARCH
LABEL org.opencontainers.image.title=tentacle-proxy \
      org.opencontainers.image.description="Passes sessions of the Tentacle protocol on"
COPY dist/$TARGETARCH/tentacle-proxy /tentacle-proxy
ENV TENTACLE_HTTP_ADDR=0.0.0.0:8080
EXPOSE 41121 8080
ENTRYPOINT ["/tentacle-proxy"]

# Where the files go is said by an option or the file of --config, and has no
# default here: a variable would override the file.
FROM base AS tentacle-sync-puller
ARG TARGETARCH
LABEL org.opencontainers.image.title=tentacle-sync-puller \
      org.opencontainers.image.description="Fetches what the buffers of isolated networks hold, by the Tentacle protocol"
COPY --chown=65532:65532 dist/empty /var/spool/tentacle
# Large files that are sent on pass through it.
COPY --chown=65532:65532 dist/empty /tmp
COPY dist/$TARGETARCH/tentacle-sync-puller /tentacle-sync-puller
ENV TENTACLE_HTTP_ADDR=0.0.0.0:8080
EXPOSE 8080
ENTRYPOINT ["/tentacle-sync-puller"]

# The command-line programs, called by name.
FROM base AS tentacle
ARG TARGETARCH
LABEL org.opencontainers.image.title=tentacle \
      org.opencontainers.image.description="tentacle_client and tentacle_server, which send, fetch and take files by the Tentacle protocol"
COPY --chown=65532:65532 dist/empty /var/spool/tentacle
# One file and a link to it: a folder's links stay links.
COPY dist/$TARGETARCH/tentacle /
EXPOSE 41121
CMD ["tentacle_client", "--help"]
