// The tools that make check runs, apart from the shim's own requirements.
module containerd-shim.v1/mk/tools

go 1.25.0

tool gvisor.dev/gvisor/tools/checklocks/cmd/checklocks

require gvisor.dev/gvisor v0.0.0-20250205023644-9414b50a5633 // indirect

require (
	golang.org/x/mod v0.34.0 // indirect
	golang.org/x/sync v0.20.0 // indirect
	golang.org/x/tools v0.43.0 // indirect
)
