// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
)

// Generation is how one range of containerd releases starts and calls a shim.
type Generation struct {
	Name     string
	Socket   SocketKind
	MaxProcs bool // GOMAXPROCS=2 in the shim's environment
	LogFIFOs bool // the daemon opens and drains shim.stdout.log and shim.stderr.log
	Pipes    bool // stdout and stderr are pipes that the daemon reads, not /dev/null
	Address  bool // writes bundle/address and bundle/shim.pid
	Criu     bool // passes -criu-path where the container asks for it
	Strict   bool // its ttrpc client refuses an OK response without a status
	Modern   bool // its requests carry the time-out and the namespace
}

// SocketKind is the form of the shim's address.
type SocketKind int

// The three forms that containerd has used.
const (
	AbstractPath SocketKind = iota // \0/containerd-shim/NS/ID/shim.sock
	AbstractHash                   // \0/containerd-shim/SHA256.sock
	FilePath                       // a path; containerd uses /run/containerd/s/SHA256
)

// The generations, named after the first release that behaves so.
var (
	Containerd1_0   = Generation{Name: "1.0", Socket: AbstractPath, Strict: true, Criu: true}
	Containerd1_1_5 = Generation{Name: "1.1.5", Socket: AbstractPath, Strict: true, Criu: true, MaxProcs: true}
	Containerd1_2_9 = Generation{Name: "1.2.9", Socket: AbstractPath, Criu: true, MaxProcs: true}
	Containerd1_3_0 = Generation{Name: "1.3.0", Socket: AbstractHash, Criu: true, MaxProcs: true, Address: true, Modern: true}
	Containerd1_4_1 = Generation{Name: "1.4.1", Socket: AbstractHash, Criu: true, MaxProcs: true, Address: true, Modern: true, LogFIFOs: true, Pipes: true}
	Containerd1_7   = Generation{Name: "1.7", Socket: FilePath, MaxProcs: true, Address: true, Modern: true, LogFIFOs: true, Pipes: true}
)

// Generations lists them, oldest first.
func Generations() []Generation {
	return []Generation{Containerd1_0, Containerd1_1_5, Containerd1_2_9, Containerd1_3_0, Containerd1_4_1, Containerd1_7}
}

// maxAddress is the longest address that a daemon accepts: sun_path has 108
// bytes, of which the leading NUL and the final one are not usable.
const maxAddress = 106

// address is the shim's socket address in the form that the generation writes
// into its files; listen is the same for package net.
func (g Generation) address(dir, namespace, id string) (address, listen string) {
	sum := sha256.Sum256([]byte(filepath.Join(dir, namespace, id)))
	switch g.Socket {
	case AbstractPath:
		// The run's directory takes the place of the namespace, so that
		// several harnesses do not meet.
		address = filepath.Join("/containerd-shim", filepath.Base(filepath.Dir(dir)), filepath.Base(dir), id, "shim.sock")
		return address, "@" + address
	case AbstractHash:
		address = fmt.Sprintf("/containerd-shim/%x.sock", sum)
		return address, "@" + address
	default:
		path := filepath.Join(dir, fmt.Sprintf("s-%x", sum[:6]))
		return "unix://" + path, path
	}
}
