// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// apt is a scratch root in which apt runs, with a package containerd that is installed
// and an archive of others.
type apt struct {
	t    *testing.T
	root string
}

func newApt(t *testing.T, installed string, archive ...string) *apt {
	t.Helper()
	a := &apt{t: t, root: scratch(t)}
	stanza := func(version, more string) string {
		return fmt.Sprintf("Package: containerd\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a daemon\n%s\n", version, more)
	}
	var index strings.Builder
	for _, v := range archive {
		index.WriteString(stanza(v, "Filename: ./containerd.deb\nSize: 1\nSHA256: "+strings.Repeat("0", 64)+"\n"))
	}
	for path, text := range map[string]string{
		"archive/Packages":                     index.String(),
		"etc/apt/sources.list":                 "deb [trusted=yes] file:" + a.root + "/archive ./\n",
		"etc/apt/apt.conf.d/none":              "",
		"etc/apt/preferences.d/none":           "",
		"var/lib/dpkg/status":                  stanza(installed, "Status: install ok installed\n"),
		"var/lib/apt/lists/partial/.keep":      "",
		"var/cache/apt/archives/partial/.keep": "",
	} {
		write(t, filepath.Join(a.root, path), text, 0o644)
	}
	a.run("apt-get", "update")
	return a
}

func (a *apt) run(program string, args ...string) string {
	a.t.Helper()
	options := []string{program, "-o", "Dir=" + a.root, "-o", "Dir::State::status=" + a.root + "/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"}
	return run(a.t, command("/", append(options, args...)...))
}

// next returns the version that an upgrade installs, or none.
func (a *apt) next() string {
	a.t.Helper()
	m := regexp.MustCompile(`(?m)^Inst containerd \[\S+\] \((\S+)`).FindStringSubmatch(a.run("apt-get", "--simulate", "full-upgrade"))
	if m == nil {
		return "none"
	}
	return m[1]
}

// The pin of patches/README.md keeps what patches/debian builds from being replaced by
// Debian's next update, takes the next one that is patched, and never goes back to an older one.
func TestPatchedDebianIsKept(t *testing.T) {
	t.Parallel()
	const security = "1.6.20~ds1-1+deb12u4"
	m := regexp.MustCompile(`'containerd \(%s(\+\w+)\)`).FindStringSubmatch(read(t, filepath.Join(tree, "patches/debian")))
	if m == nil {
		t.Fatal("patches/debian does not say which version it makes")
	}
	suffix := m[1]
	m = regexp.MustCompile(`(?m)^    Package: containerd\n(?:    .*\n)+`).FindStringSubmatch(read(t, filepath.Join(tree, "patches/README.md")))
	if m == nil {
		t.Fatal("patches/README.md has no pin")
	}
	pin := strings.ReplaceAll(m[0], "    ", "")
	patched := "1.6.20~ds1-1+deb12u3" + suffix
	for _, tc := range []struct {
		name, installed, pin string
		archive              []string
		want                 string
	}{
		{"no pin", patched, "", []string{security}, security},
		{"kept", patched, pin, []string{security, patched}, "none"},
		{"kept, and in no archive", patched, pin, []string{security}, "none"},
		{"the next patched one", patched, pin, []string{security, patched, security + suffix, "1.6.20~ds1-1+deb12u5"}, security + suffix},
		{"not patched, and newer", security, pin, []string{security, patched}, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newApt(t, tc.installed, tc.archive...)
			write(t, filepath.Join(a.root, "etc/apt/preferences.d/containerd-exits"), tc.pin, 0o644)
			if got := a.next(); got != tc.want {
				t.Errorf("an upgrade installs %s, want %s\n%s", got, tc.want, a.run("apt-cache", "policy", "containerd"))
			}
		})
	}
}
