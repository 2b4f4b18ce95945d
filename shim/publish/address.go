// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"path/filepath"
	"slices"
)

// socketNames are the names that containerd's gRPC socket has had: Docker
// called it docker-containerd.sock up to 18.06.
var socketNames = []string{"containerd.sock", "docker-containerd.sock"}

// addresses returns the sockets at which this container's daemon may be: where
// it was when the shim was started, and the other names of the same daemon's
// socket. Only directories that belong to that daemon are looked at: the one of
// the first address, and those above the bundle, which is
// <state>/io.containerd.runtime.v1.linux/<namespace>/<id> with the socket in
// <state> (containerd's default) or one up (dockerd). Another daemon would take
// an exit that this container's daemon then never sees.
func (p *Publisher) addresses() []string {
	all := []string{p.c.Address}
	add := func(dir string) {
		for _, name := range socketNames {
			if a := filepath.Join(dir, name); !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	if p.c.Address != "" {
		add(filepath.Dir(p.c.Address))
	}
	if p.c.Bundle != "" {
		runtimeDir := filepath.Dir(filepath.Dir(p.c.Bundle))
		if filepath.Base(runtimeDir) == "io.containerd.runtime.v1.linux" {
			state := filepath.Dir(runtimeDir)
			add(state)
			add(filepath.Dir(state))
		}
	}
	return all
}
