// Upstream's containerd-shim of this release, built as it is.
// Only this nested module knows these versions; the product does not.
module containerd-shim.v1/integration/upstream/v1.2.6

go 1.20

require (
	github.com/containerd/console v1.0.1
	github.com/containerd/containerd v1.2.6
	github.com/containerd/fifo v1.0.0
	github.com/containerd/go-runc v1.0.0
	github.com/containerd/ttrpc v1.0.0
	github.com/containerd/typeurl v1.0.0
	github.com/gogo/protobuf v1.3.2
	github.com/golang/protobuf v1.2.0
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/runc v1.0.0-rc5
	github.com/opencontainers/runtime-spec v1.0.2
	github.com/pkg/errors v0.9.1
	github.com/sirupsen/logrus v1.9.3
	golang.org/x/net v0.30.0
	golang.org/x/sys v0.30.0
	google.golang.org/genproto v0.0.0-20180817151627-c66870c02cf8
	google.golang.org/grpc v1.12.0
)
