// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// redhat is a scratch root with an rpm database of its own.
type redhat struct {
	t          *testing.T
	root, rpms string
}

func newRedhat(t *testing.T) *redhat {
	t.Helper()
	return &redhat{t: t, rpms: made(t, "build-rpm"), root: root(t, "sh", "ln", "mv", "rm", "readlink")}
}

func (r *redhat) path(path string) string { return filepath.Join(r.root, path) }

// rpm runs rpm without checking dependencies: sh and coreutils are in the root, but not
// as packages.
func (r *redhat) rpm(args ...string) string {
	r.t.Helper()
	return run(r.t, command("/", append([]string{"rpm", "--root=" + r.root, "--dbpath=/var/lib/rpm", "--nodeps"}, args...)...))
}

// file returns the path of a package of this tree.
func (r *redhat) file(name string) string {
	r.t.Helper()
	name += "-" + version(r.t)
	found, err := filepath.Glob(filepath.Join(r.rpms, name+"-1.*64.rpm"))
	if len(found) == 0 {
		found, err = filepath.Glob(filepath.Join(r.rpms, name+"-1.noarch.rpm"))
	}
	if err != nil || len(found) != 1 {
		r.t.Fatalf("packages %s: %v, %v", name, found, err)
	}
	return found[0]
}

// replace installs the shim and the package that puts it in the owner's place, and
// returns the output.
func (r *redhat) replace() string {
	r.t.Helper()
	return r.rpm("--upgrade", "--replacepkgs", r.file("containerd-shim"), r.file("containerd-shim-replace"))
}

// owner makes a package with a shim in it, like those of containerd and docker-ce, or
// with another file, and returns its path. more are further tags of its preamble.
func (r *redhat) owner(name, version, shim string, more ...string) string {
	r.t.Helper()
	dir := scratch(r.t)
	spec := fmt.Sprintf("Name: %s\nVersion: %s\nRelease: 1\nSummary: a daemon\nLicense: none\nBuildArch: noarch\n%s\n%%description\nA daemon.\n%%files\n%s\n",
		name, version, strings.Join(more, "\n"), shim)
	write(r.t, filepath.Join(dir, "owner.spec"), spec, 0o644)
	write(r.t, filepath.Join(dir, "buildroot", shim), shimOf(version), 0o755)
	run(r.t, command(dir, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir,
		"--define", "__spec_install_pre true", "--buildroot", filepath.Join(dir, "buildroot"), "owner.spec"))
	return filepath.Join(dir, "RPMS/noarch", name+"-"+version+"-1.noarch.rpm")
}

// The whole life of the packages, while somebody looks for the shim all the time.
func TestRpmNeverWithoutShim(t *testing.T) {
	t.Parallel()
	for _, o := range []struct{ name, path string }{{"containerd", plain}, {"containerd.io", plain}, {"docker-ce", dockers}} {
		t.Run(o.name, func(t *testing.T) {
			r := newRedhat(t)
			one, two, three := r.owner(o.name, "1", o.path), r.owner(o.name, "2", o.path), r.owner(o.name, "3", o.path)
			r.rpm("--upgrade", one)
			w := look(r.root, o.path)
			for range lives {
				r.rpm("--upgrade", "--oldpackage", "--replacepkgs", one)
				is(t, r.path(o.path), "1")
				r.replace()
				ours(t, r.root, o.path)
				is(t, r.path(o.path+".distrib"), "1")
				r.rpm("--upgrade", two)
				ours(t, r.root, o.path)
				is(t, r.path(o.path+".distrib"), "2")
				r.replace() // the same version again
				ours(t, r.root, o.path)
				is(t, r.path(o.path+".distrib"), "2")
				r.rpm("--erase", "containerd-shim-replace")
				is(t, r.path(o.path), "2")
				none(t, r.path(distrib), r.path(dockersDistrib))
				r.rpm("--upgrade", three)
				r.replace()
				ours(t, r.root, o.path)
				r.rpm("--erase", "containerd-shim-replace", "containerd-shim")
				is(t, r.path(o.path), "3")
			}
			w.end(t, manyLooks)
			none(t, r.path(distrib), r.path(dockersDistrib), r.path(libexec))
		})
	}
}

// Our package is there first, and the owner comes and goes.
func TestRpmBeforeOwner(t *testing.T) {
	t.Parallel()
	r := newRedhat(t)
	r.replace()
	none(t, r.path(plain), r.path(dockers))
	r.rpm("--install", r.owner("docker-ce", "18.06", dockers))
	ours(t, r.root, dockers)
	is(t, r.path(dockersDistrib), "18.06")
	r.rpm("--erase", "docker-ce")
	none(t, r.path(dockers), r.path(dockersDistrib))
	r.rpm("--erase", "containerd-shim-replace", "containerd-shim")
	none(t, r.path(plain), r.path(dockers))
}

// containerd.io takes the place of containerd in one transaction, and docker-ce 18.09
// no longer has a shim. Neither leaves anything behind, and in the end the path has
// containerd.io's shim.
func TestRpmOwnerChanges(t *testing.T) {
	t.Parallel()
	r := newRedhat(t)
	r.rpm("--install", r.owner("containerd", "1.2", plain), r.owner("docker-ce", "18.06", dockers))
	r.replace()
	w := look(r.root, plain)
	r.rpm("--upgrade", r.owner("containerd.io", "1.3", plain, "Obsoletes: containerd", "Provides: containerd"))
	ours(t, r.root, plain)
	is(t, r.path(distrib), "1.3")
	ours(t, r.root, dockers)
	is(t, r.path(dockersDistrib), "18.06")
	r.rpm("--upgrade", r.owner("docker-ce", "18.09", "/usr/bin/dockerd"))
	none(t, r.path(dockers), r.path(dockersDistrib))
	r.rpm("--erase", "containerd-shim-replace")
	w.end(t, 1)
	is(t, r.path(plain), "1.3")
	none(t, r.path(distrib), r.path(dockersDistrib))
}

// A link that the administrator has made is left alone, and a message says so.
func TestRpmForeignLink(t *testing.T) {
	t.Parallel()
	r := newRedhat(t)
	write(t, r.path("/opt/shim"), shimOf("theirs"), 0o755)
	if err := os.Symlink("/opt/shim", r.path(plain)); err != nil {
		t.Fatal(err)
	}
	if got, want := r.replace(), plain+" is another's link, and left alone"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
	r.rpm("--erase", "containerd-shim-replace", "containerd-shim")
	if got, err := os.Readlink(r.path(plain)); err != nil || got != "/opt/shim" {
		t.Errorf("link to %q (%v), want /opt/shim", got, err)
	}
	none(t, r.path(distrib), r.path(plain+".new"))
}
