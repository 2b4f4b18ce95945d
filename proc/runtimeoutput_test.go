// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"strings"
	"testing"

	"containerd-shim.v1/proc/internal/proctest"
	"containerd-shim.v1/proc/stdio"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// F23: what a failing runtime writes to the process's streams is in the error,
// and not on its way to the client.
func TestRuntimeOutputGoesIntoTheError(t *testing.T) {
	for name, verb := range map[string]func(Runtime, *stdio.Streams) error{
		"create": func(r Runtime, io *stdio.Streams) error {
			return r.Create(t.Context(), "c1", "/bundle", CreateCall{IO: io})
		},
		"exec": func(r Runtime, io *stdio.Streams) error {
			return r.Exec(t.Context(), "c1", specs.Process{}, ExecCall{IO: io})
		},
	} {
		t.Run(name, func(t *testing.T) {
			census(t)
			r, _ := scripted(t, `echo hello; echo "no such program" >&2; exit 1`)
			out, errs := fifo(t), fifo(t)
			io, err := stdio.Open(stdio.Config{Names: Stdio{Stdout: out, Stderr: errs}, Limits: shortLimits()})
			if err != nil {
				t.Fatal(err)
			}
			clients := []*proctest.Client{attach(t, out), attach(t, errs)}
			if err := verb(r, io); err == nil || !strings.HasSuffix(err.Error(), "failed: no such program") {
				t.Errorf("got %v", err)
			}
			io.Abort()
			for _, c := range clients {
				if got := c.All(t); got != "" {
					t.Errorf("the client got %q", got)
				}
			}
		})
	}
}
