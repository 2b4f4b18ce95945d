// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// textfile is where shimctl-export.service writes, evidence one of what shimctl keeps.
const (
	textfile = "/var/lib/prometheus/node-exporter/containerd_shim.prom"
	evidence = "/var/lib/shimctl/repairs.json"
)

// units are all that shimctl installs.
var units = []string{"shimctl-export.service", "shimctl-export.timer", "shimctl-repair.service", "shimctl-repair.timer", "shimctl-upgrade.service"}

// manager puts stand-ins for the programs that talk to systemd into a root, as if it ran
// there. They write down how they were called.
type manager struct {
	t    *testing.T
	root string
}

func newManager(t *testing.T, root string, programs ...string) *manager {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		write(t, filepath.Join(root, "usr/bin", program), "#!/bin/sh\necho \"${0##*/} $*\" >>/calls\n", 0o755)
	}
	m := &manager{t: t, root: root}
	m.forget()
	return m
}

func (m *manager) forget() { write(m.t, filepath.Join(m.root, "calls"), "", 0o644) }

// asked returns the units for which systemd was asked to do verb, sorted, and forgets nothing.
func (m *manager) asked(verb string) []string {
	m.t.Helper()
	var found []string
	for line := range strings.Lines(read(m.t, filepath.Join(m.root, "calls"))) {
		words := strings.Fields(line)
		if program := words[0]; program != "systemctl" && program != "deb-systemd-invoke" || !slices.Contains(words, verb) {
			continue
		}
		for _, w := range words {
			if strings.HasPrefix(w, "shimctl-") {
				found = append(found, w)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// want checks for which units systemd was asked to do verb.
func (m *manager) want(after, verb string, want ...string) {
	m.t.Helper()
	if got := m.asked(verb); !slices.Equal(got, want) {
		m.t.Errorf("after %s: %s of %q, want %q; calls:\n%s", after, verb, got, want, read(m.t, filepath.Join(m.root, "calls")))
	}
}

// quiet checks that nothing was started, and nothing stopped, by anybody but the
// administrator.
func (m *manager) quiet(after string) {
	m.t.Helper()
	for _, verb := range []string{"start", "stop", "restart", "enable", "disable", "--now"} {
		m.want(after, verb)
	}
}

// used leaves what a shimctl that has run leaves, in the root.
func used(t *testing.T, root string) {
	t.Helper()
	for _, path := range []string{textfile, evidence} {
		write(t, filepath.Join(root, path), "x", 0o644)
	}
	write(t, filepath.Join(root, filepath.Dir(textfile), "theirs.prom"), "x", 0o644)
}

// left checks which of what used has made is left.
func left(t *testing.T, root string, metrics, kept bool) {
	t.Helper()
	for path, want := range map[string]bool{textfile: metrics, filepath.Dir(evidence): kept, filepath.Dir(textfile) + "/theirs.prom": true} {
		if _, err := os.Lstat(filepath.Join(root, path)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", path, err, want)
		}
	}
}

// An upgrade lets the timers go on, with their new times, and an exchange or a repair
// that is under way, too. A removal stops all of them, and leaves no metrics that would be
// taken for those of now.
func TestDebUnits(t *testing.T) {
	t.Parallel()
	d := newDebian(t)
	if got := strings.TrimSpace(run(t, command(tree, "dpkg-deb", "--field", d.deb("shimctl"), "Recommends"))); got != "containerd-shim" {
		t.Errorf("it recommends %q: alone it has no program to heal with", got)
	}
	m := newManager(t, d.root, "deb-systemd-invoke", "deb-systemd-helper", "systemctl")
	d.dpkg("--install", d.deb("shimctl"))
	m.quiet("installation")
	m.want("installation", "try-restart")

	used(t, d.root)
	m.forget()
	d.dpkg("--install", d.deb("shimctl")) // the same version again: an upgrade
	m.quiet("upgrade")
	m.want("upgrade", "try-restart", "shimctl-export.timer", "shimctl-repair.timer")
	left(t, d.root, true, true)

	m.forget()
	d.dpkg("--remove", "shimctl")
	m.want("removal", "stop", units...)
	left(t, d.root, false, true)

	d.dpkg("--install", d.deb("shimctl"))
	used(t, d.root)
	d.dpkg("--purge", "shimctl")
	left(t, d.root, false, false)
}

// The same of the RPM. rpm has no purge: what shimctl keeps is kept.
func TestRpmUnits(t *testing.T) {
	t.Parallel()
	r := newRedhat(t)
	if got := strings.TrimSpace(run(t, command(tree, "rpm", "--query", "--package", "--recommends", r.file("shimctl")))); got != "containerd-shim" {
		t.Errorf("it recommends %q: alone it has no program to heal with", got)
	}
	m := newManager(t, r.root, "systemctl")
	r.rpm("--upgrade", r.file("shimctl"))
	m.quiet("installation")
	m.want("installation", "try-restart")

	used(t, r.root)
	m.forget()
	r.rpm("--upgrade", "--replacepkgs", r.file("shimctl"))
	m.quiet("upgrade")
	m.want("upgrade", "try-restart", "shimctl-export.timer", "shimctl-repair.timer")
	left(t, r.root, true, true)

	m.forget()
	r.rpm("--erase", "shimctl")
	m.want("removal", "stop", units...)
	m.want("removal", "disable", "shimctl-export.timer", "shimctl-repair.timer")
	left(t, r.root, false, true)
}
