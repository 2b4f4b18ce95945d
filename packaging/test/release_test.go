// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// Everything is the same, byte for byte, whether it is built from a checkout here or
// from its own tarball elsewhere: with another directory, user, umask, home, locale and
// time zone, without a network, and with an empty build cache, so that all is compiled
// again.
func TestRebuiltElsewhereIsTheSame(t *testing.T) {
	t.Parallel()
	first := artefacts(t, made(t, "release"), made(t, "build-deb"), made(t, "build-rpm"))
	// Tarball, 3 binaries for 2 architectures, bill of materials, checksums;
	// 4 .deb, .dsc, 2 tarballs; 4 .rpm and the source.
	if got, want := len(first), 9+7+5; got != want {
		t.Fatalf("got %d files, want %d: %q", got, want, names(first))
	}

	dir := scratch(t)
	elsewhere, home, out := filepath.Join(dir, "quite", "another place"), filepath.Join(dir, "home"), filepath.Join(dir, "out")
	for _, d := range []string{elsewhere, home, out} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, command(elsewhere, "tar", "-xzf", filepath.Join(made(t, "release"), tarball(t)), "--strip-components=1", "--no-same-owner"))
	run(t, command(dir, "chown", "-R", "nobody:", elsewhere, home, out))
	again := command(elsewhere, "sh", "-e", "-c", `umask 077
		for kind in release build-deb build-rpm; do packaging/$kind "$0/$kind"; done`, out)
	again.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "LINT=no",
		"GOCACHE=" + filepath.Join(home, "cache"), "GOMODCACHE=" + filepath.Join(home, "none"), "GOPROXY=off", "GOAMD64=v3"}
	again.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		// All of it ends with its first process, which dies with the test.
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	run(t, again)
	second := artefacts(t, filepath.Join(out, "release"), filepath.Join(out, "build-deb"), filepath.Join(out, "build-rpm"))
	if got, want := names(second), names(first); !slices.Equal(got, want) {
		t.Errorf("rebuilt elsewhere: got files %q, want %q", got, want)
	}
	for _, name := range names(first) {
		if first[name] == second[name] {
			t.Logf("twice %s  %s", first[name], name)
		} else {
			t.Errorf("%s: built %s, rebuilt elsewhere %s", name, first[name], second[name])
		}
	}
}

// artefacts returns the SHA-256 of each file in the directories, by its name. Debian's
// .buildinfo and .changes are left out, because they say where the build was made.
func artefacts(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			switch filepath.Ext(file) {
			case ".buildinfo", ".changes":
			default:
				sums[filepath.Base(file)] = strings.Fields(run(t, command("/", "sha256sum", file)))[0]
			}
		}
	}
	return sums
}

func names(sums map[string]string) []string {
	var all []string
	for name := range sums {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// The tarball of a checkout is the same as that of another checkout of the
// same commit, whatever its modes and times.
func TestTarballIsReproducible(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	var sums []string
	for _, umask := range []string{"022", "077"} {
		checkout := clone(t, filepath.Join(dir, "umask"+umask))
		run(t, command(checkout, "find", ".", "-name", "*.go", "-exec", "touch", "-d", "20"+umask[1:]+"-02-03", "{}", "+"))
		build := command(checkout, "sh", "-c", "umask "+umask+" && exec packaging/dist out")
		build.Env = append(os.Environ(), "TZ=America/Caracas")
		run(t, build)
		sums = append(sums, strings.Fields(run(t, command(checkout, "sha256sum", filepath.Join("out", tarball(t)))))[0])
	}
	if sums[0] != sums[1] {
		t.Errorf("tarballs differ: %v", sums)
	}
}
