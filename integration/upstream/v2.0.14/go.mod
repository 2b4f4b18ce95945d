// Upstream's containerd-shim-runc-v2 of this release, built as it is.
// Only this nested module knows these versions; the product does not.
module containerd-shim.v1/integration/upstream/v2.0.14

go 1.23.0

require github.com/containerd/containerd/v2 v2.0.14
