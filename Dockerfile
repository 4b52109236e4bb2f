# The image of every process: `perdure` (all services in one, the tools, the health check) and the three services of a cluster.
# It holds static binaries and the system's certificate authorities, nothing else: no shell, no package manager, no root.
#
# Where no registry can be reached, both base images can be replaced: --build-arg GO_IMAGE=… --build-arg BASE_IMAGE=…
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.1.0-dev
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X github.com/perdure/perdure/server.Version=${VERSION}" -o /out/ ./cmd/...

FROM ${BASE_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /usr/local/bin/
ENV PATH=/usr/local/bin \
    PERDURE_GRPC_ADDRESS=0.0.0.0:7233 \
    PERDURE_HTTP_ADDRESS=0.0.0.0:7243
USER 65532:65532
EXPOSE 7233 7243
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/perdure", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/perdure"]
CMD ["server", "start"]
