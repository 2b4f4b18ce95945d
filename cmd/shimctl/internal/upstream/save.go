// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"containerd-shim.v1/internal/state"
)

// state returns what was read, as a whole.
func (r *reader) state() (*state.Shim, error) {
	s := &state.Shim{Writer: "shimctl, of upstream's shim " + r.Name, Listener: r.listener}
	for _, c := range r.conns {
		s.Connections = append(s.Connections, c.Connection)
	}
	id := r.m.String(r.service + serviceID)
	init := r.objects[id]
	runc := r.m.Word(init.at + init.runtime)
	s.Container = &state.Container{Process: init.Process, Bundle: r.m.String(init.at + init.bundle), Runtime: r.m.String(runc),
		IoUID: uint32(r.m.Int(init.at + init.ioUID)), IoGID: uint32(r.m.Int(init.at + init.ioUID + 8))}
	if init.noPivotRoot != 0 {
		s.Container.NoPivotRoot, s.Container.NoNewKeyring = r.m.Bool(init.at+init.noPivotRoot), r.m.Bool(init.at+init.noPivotRoot+1)
	}
	if init.criuWork != 0 {
		s.Container.CriuWorkPath = r.m.String(init.at + init.criuWork)
	}
	if r.mounted {
		s.Container.Rootfs = []state.Mount{{}}
	}
	for _, id := range r.sortedIDs() {
		o := r.objects[id]
		r.count(o)
		if !o.exec {
			continue
		}
		e := state.Exec{Process: o.Process}
		if o.Phase == state.Created {
			e.Spec = r.specs.spec(r.m, o.at+o.spec)
		}
		s.Execs = append(s.Execs, e)
	}
	r.held(s, init)
	return s, r.m.Err()
}

// count adds a process to the report.
func (r *reader) count(o *object) {
	switch {
	case o.Pid == 0 || o.Exit != nil:
	case r.living[o.Pid]:
		r.report.Processes++
	case r.zombies[o.Pid]:
		r.report.Exits++ // the next program reaps it
	default: // the pid may be another process's by now
		r.report.Unknown++
	}
}

// held adds to s the exits of which the daemon may not have heard.
func (r *reader) held(s *state.Shim, init *object) {
	late := r.lateExits
	queued, idle := r.m.Chan(r.m.Word(r.service+serviceEvents)), false
	for i := range r.dump.Goroutines {
		g := &r.dump.Goroutines[i]
		if len(g.Frames) > 0 && strings.HasPrefix(g.Frames[0].Func, r.Release.service+".(*Service).forward") {
			idle = true
		}
	}
	if !idle || len(queued.Queued)+len(queued.Senders) > 0 {
		r.report.Lost = append(r.report.Lost, fmt.Sprintf("%d events that were not sent yet, but for exits, which are sent again", len(queued.Queued)+len(queued.Senders)))
		for _, o := range r.objects {
			if o.Exit != nil && !slices.Contains(late, o) {
				late = append(late, o)
			}
		}
	}
	r.report.Exits += len(r.lateExits)
	slices.SortStableFunc(late, func(a, b *object) int { return cmp.Compare(r.order(a), r.order(b)) })
	s.Told = init.Exit != nil
	for _, o := range late {
		if o.Pid == 0 { // its start has failed
			continue
		}
		s.Seq++
		s.Held = append(s.Held, state.Held{ID: o.ID, Pid: o.Pid, Status: o.Exit.Status, At: o.Exit.At, Seq: s.Seq})
		s.Told = s.Told && o != init
	}
}

// order returns a process's place in the order of death. Those whose exits the old
// program has dealt with come first.
func (r *reader) order(o *object) int { return slices.Index(r.exitOrder, o.Pid) }

// mountedOn reports whether something is mounted on the path.
func (r *reader) mountedOn(path string) (bool, error) {
	b, err := os.ReadFile(r.proc("mountinfo"))
	if err != nil {
		return false, err
	}
	path = strings.ReplaceAll(path, " ", `\040`)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			return true, nil
		}
	}
	return false, nil
}
