// Upstream's containerd-shim of this release, built as it is.
// Only this nested module knows these versions; the product does not.
module containerd-shim.v1/integration/upstream/v1.7.35

go 1.25.0

require github.com/containerd/containerd v1.7.35
