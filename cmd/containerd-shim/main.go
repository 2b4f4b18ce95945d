// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim supervises one container for containerd's v1 Linux
// runtime (io.containerd.runtime.v1.linux).
package main

var (
	version  = "unknown"
	revision = ""
)

func main() {
	println("containerd-shim", version, revision)
}
