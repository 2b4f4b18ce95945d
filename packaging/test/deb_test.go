// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// debian is a scratch root with a package database of its own.
type debian struct {
	t    *testing.T
	root string
	debs string
}

func newDebian(t *testing.T) *debian {
	t.Helper()
	return &debian{t: t, debs: made(t, "build-deb"), root: root(t, "sh", "ln", "mv", "rm", "readlink", "dpkg", "dpkg-query", "dpkg-divert")}
}

func (d *debian) path(path string) string { return filepath.Join(d.root, path) }

func (d *debian) command(args ...string) *exec.Cmd {
	return command("/", append([]string{"dpkg", "--root=" + d.root, "--no-triggers", "--force-unsafe-io"}, args...)...)
}

func (d *debian) dpkg(args ...string) string {
	d.t.Helper()
	return run(d.t, d.command(args...))
}

// deb returns the path of a package of this tree.
func (d *debian) deb(name string) string {
	arch := runtime.GOARCH
	if name == "containerd-shim-replace" {
		arch = "all"
	}
	return filepath.Join(d.debs, name+"_"+version(d.t)+"-1_"+arch+".deb")
}

// owner makes a package with a shim in it, like those of containerd and docker-ce, and
// returns its path. more are further fields of its control file.
func (d *debian) owner(name, version, shim string, more ...string) string {
	d.t.Helper()
	dir := filepath.Join(scratch(d.t), "owner")
	write(d.t, filepath.Join(dir, shim), shimOf(version), 0o755)
	write(d.t, filepath.Join(dir, "DEBIAN/control"), fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a daemon\n%s", name, version, strings.Join(append(more, ""), "\n")), 0o644)
	run(d.t, command("/", "dpkg-deb", "--build", dir))
	return dir + ".deb"
}

func (d *debian) replace() {
	d.t.Helper()
	d.dpkg("--install", d.deb("containerd-shim"), d.deb("containerd-shim-replace"))
}

func (d *debian) diversions() string { return d.dpkgDivert("--list") }

func (d *debian) dpkgDivert(args ...string) string {
	d.t.Helper()
	return run(d.t, command("/", append([]string{"chroot", d.root, "dpkg-divert"}, args...)...))
}

// clean checks that nothing of ours is left, and that the owner's files are unchanged.
func (d *debian) clean() {
	d.t.Helper()
	if got := d.diversions(); got != "" {
		d.t.Errorf("diversions are left: %s", got)
	}
	none(d.t, d.path(distrib), d.path(dockersDistrib), d.path(plain+".new"), d.path(dockers+".new"))
	if got := d.dpkg("--verify"); got != "" {
		d.t.Errorf("dpkg --verify: %s", got)
	}
}

// The whole life of the packages, while somebody looks for the shim all the time.
func TestDebNeverWithoutShim(t *testing.T) {
	t.Parallel()
	for _, o := range []struct{ name, path string }{{"containerd", plain}, {"containerd.io", plain}, {"docker-ce", dockers}} {
		t.Run(o.name, func(t *testing.T) {
			d := newDebian(t)
			one, two, three := d.owner(o.name, "1", o.path), d.owner(o.name, "2", o.path), d.owner(o.name, "3", o.path)
			d.dpkg("--install", one)
			w := look(d.root, o.path)
			for range lives {
				d.dpkg("--install", one)
				is(t, d.path(o.path), "1")
				d.replace()
				ours(t, d.root, o.path)
				is(t, d.path(o.path+".distrib"), "1")
				d.dpkg("--install", two)
				ours(t, d.root, o.path)
				is(t, d.path(o.path+".distrib"), "2")
				d.replace() // the same version again: an upgrade
				ours(t, d.root, o.path)
				is(t, d.path(o.path+".distrib"), "2")
				d.dpkg("--remove", "containerd-shim-replace")
				is(t, d.path(o.path), "2")
				d.clean()
				d.dpkg("--install", three)
				is(t, d.path(o.path), "3")
				d.replace()
				d.dpkg("--purge", "containerd-shim-replace", "containerd-shim")
				is(t, d.path(o.path), "3")
			}
			w.end(t, manyLooks)
			d.clean()
			none(t, d.path(libexec), d.path(filepath.Dir(libexec)))
		})
	}
}

// Our package is there first, and the owner comes and goes.
func TestDebBeforeOwner(t *testing.T) {
	t.Parallel()
	d := newDebian(t)
	d.replace()
	ours(t, d.root, plain)
	ours(t, d.root, dockers)
	w := look(d.root, dockers)
	d.dpkg("--install", d.owner("docker-ce", "18.06", dockers))
	ours(t, d.root, dockers)
	is(t, d.path(dockersDistrib), "18.06")
	d.dpkg("--purge", "docker-ce")
	ours(t, d.root, dockers)
	none(t, d.path(dockersDistrib))
	d.dpkg("--install", d.owner("docker-ce", "18.06.3", dockers))
	d.dpkg("--purge", "containerd-shim-replace", "containerd-shim")
	w.end(t, 1)
	is(t, d.path(dockers), "18.06.3")
	none(t, d.path(plain))
	d.clean()
}

// A postinst that was interrupted after any of its steps can be completed, and prerm
// undoes the steps that were done.
func TestDebInterrupted(t *testing.T) {
	t.Parallel()
	steps := []string{
		"dpkg-divert --package containerd-shim-replace --no-rename --divert " + distrib + " --add " + plain,
		"ln " + plain + " " + distrib,
		"ln -sfT " + libexec + " " + plain + ".new",
		"mv -fT " + plain + ".new " + plain,
	}
	for n := range len(steps) + 1 {
		for _, then := range []string{"configure", "remove"} {
			t.Run(fmt.Sprintf("%d/%s", n, then), func(t *testing.T) {
				d := newDebian(t)
				d.dpkg("--install", d.owner("containerd", "1", plain))
				d.dpkg("--unpack", d.deb("containerd-shim"), d.deb("containerd-shim-replace"))
				w := look(d.root, plain)
				run(t, command("/", "chroot", d.root, "sh", "-c", strings.Join(append([]string{"set -e"}, steps[:n]...), "\n")))
				if then == "configure" {
					d.dpkg("--configure", "--pending")
					ours(t, d.root, plain)
					is(t, d.path(distrib), "1")
				}
				run(t, command("/", "chroot", d.root, "/var/lib/dpkg/info/containerd-shim-replace.prerm", "remove"))
				close(w.stop)
				w.done.Wait()
				if w.misses > 0 {
					t.Errorf("%d misses in %d looks", w.misses, w.looks)
				}
				is(t, d.path(plain), "1")
				none(t, d.path(distrib), d.path(plain+".new"), d.path(dockers))
				if got := d.diversions(); got != "" {
					t.Errorf("diversions are left: %s", got)
				}
			})
		}
	}
}

// An upgraded package whose containerd-shim is too old stays unpacked, and dpkg calls no
// prerm when it goes.
func TestDebUnpackedOnly(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"--remove", "--purge"} {
		t.Run(verb, func(t *testing.T) {
			d := newDebian(t)
			d.dpkg("--install", d.owner("containerd", "1", plain))
			d.replace()
			w := look(d.root, plain)
			d.dpkg("--unpack", d.deb("containerd-shim-replace"))
			ours(t, d.root, plain)
			d.dpkg(verb, "containerd-shim", "containerd-shim-replace")
			w.end(t, 1)
			is(t, d.path(plain), "1")
			d.clean()
		})
	}
}

// containerd.io takes the place of containerd in one run of dpkg, while docker-ce has a
// shim of its own.
func TestDebOwnerChanges(t *testing.T) {
	t.Parallel()
	d := newDebian(t)
	d.dpkg("--install", d.owner("containerd", "1.2", plain), d.owner("docker-ce", "18.06", dockers))
	d.replace()
	w := look(d.root, plain)
	d.dpkg("--auto-deconfigure", "--install", d.owner("containerd.io", "1.3", plain, "Conflicts: containerd", "Replaces: containerd", "Provides: containerd"))
	ours(t, d.root, plain)
	is(t, d.path(distrib), "1.3")
	ours(t, d.root, dockers)
	is(t, d.path(dockersDistrib), "18.06")
	d.dpkg("--purge", "containerd-shim-replace")
	w.end(t, 1)
	is(t, d.path(plain), "1.3")
	is(t, d.path(dockers), "18.06")
	d.clean()
}

// If somebody else's diversion or file is in the way, nothing is changed, and the
// package is not installed.
func TestDebRefusesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(d *debian)
		want    string
	}{
		"diverted by the administrator": {
			func(d *debian) { d.dpkgDivert("--local", "--no-rename", "--divert", plain+".mine", "--add", plain) },
			plain + " is diverted by the administrator",
		},
		"diverted by a package": {
			func(d *debian) {
				d.dpkgDivert("--package", "other", "--no-rename", "--divert", dockers+".other", "--add", dockers)
			},
			dockers + " is diverted by other",
		},
		"a file at the new name": {
			func(d *debian) { write(d.t, d.path(distrib), shimOf("mine"), 0o755) },
			distrib + " is in the way",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDebian(t)
			d.dpkg("--install", d.owner("containerd", "1", plain))
			tc.prepare(d)
			before := d.diversions()
			out, err := d.command("--install", d.deb("containerd-shim"), d.deb("containerd-shim-replace")).CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("install: %v, want an error with %q:\n%s", err, tc.want, out)
			}
			is(t, d.path(plain), "1")
			if got := d.diversions(); got != before {
				t.Errorf("diversions: got %q, want %q", got, before)
			}
			if got := d.dpkg("--list", "containerd-shim*"); !strings.Contains(got, "\nin  containerd-shim-replace") {
				t.Errorf("the refused package is not 'not installed':\n%s", got)
			}
		})
	}
}

// The package can be removed even if its diversion was replaced by hand after the
// installation.
func TestDebRemovedAfterDiversionWasLost(t *testing.T) {
	t.Parallel()
	d := newDebian(t)
	d.dpkg("--install", d.owner("containerd", "1", plain))
	d.replace()
	d.dpkgDivert("--no-rename", "--remove", plain)
	d.dpkgDivert("--local", "--no-rename", "--divert", plain+".mine", "--add", plain)
	d.dpkg("--purge", "containerd-shim-replace")
	if got := d.diversions(); !strings.Contains(got, plain+".mine") || strings.Contains(got, "replace") {
		t.Errorf("diversions: got %q, want the administrator's alone", got)
	}
}
