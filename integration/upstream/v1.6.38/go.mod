// Upstream's containerd-shim of this release, built as it is.
// Only this nested module knows these versions; the product does not.
module containerd-shim.v1/integration/upstream/v1.6.38

go 1.20

require github.com/containerd/containerd v1.6.38

// As in upstream's own go.mod: newer genproto releases moved packages.
replace google.golang.org/genproto => google.golang.org/genproto v0.0.0-20200224152610-e50cd9704f63
