// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"containerd-shim.v1/internal/state"
)

// underway notes that the start of a process has begun and is not answered. It must not be
// carried out again, because the process may be running.
func (r *reader) underway(o *object) error {
	if o.Phase != state.Created {
		return nil
	}
	if !o.exec {
		return fmt.Errorf("%w: the container is being started", ErrBusy)
	}
	o.Start = &state.Start{Stage: state.Underway}
	for _, c := range r.runtimes {
		if i := slices.Index(c.args, "--pid-file"); i > 0 && i+1 < len(c.args) && filepath.Base(c.args[i+1]) == o.ID+".pid" && !r.known(c.pid) {
			o.Start.Runtime, c.used = c.pid, true
			return nil
		}
	}
	// The runtime has returned. If the process was reaped since, only the old program
	// knows its exit status.
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.pid), "root", r.pidFile(o.ID)))
	if err != nil {
		return nil // the runtime has failed
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if e, ok := r.exits[pid]; err == nil && ok && !r.living[pid] && !r.zombies[pid] {
		o.Pid, o.Phase, o.Exit = pid, state.Stopped, &state.Exit{Status: statusOf(e.Status), At: e.At}
		r.lateExits = append(r.lateExits, o)
	}
	return nil
}

// pidFile returns the path to which the runtime writes the pid of an exec.
func (r *reader) pidFile(id string) string { return filepath.Join(r.bundle, id+".pid") }
