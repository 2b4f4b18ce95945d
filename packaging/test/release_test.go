// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// A release is the same, byte for byte, out of a checkout here and out of its
// own tarball elsewhere: another directory, user, umask, home, locale, time
// zone and build cache, and no network.
func TestReleaseIsReproducible(t *testing.T) {
	dir := scratch(t)
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	checkout := clone(t, filepath.Join(dir, "a"))
	run(t, command(checkout, "packaging/release", first))
	sums := read(t, filepath.Join(first, "SHA256SUMS"))
	if got, want := strings.Count(sums, "\n"), 8; got != want {
		t.Fatalf("SHA256SUMS names %d files, want %d:\n%s", got, want, sums)
	}

	elsewhere, home := filepath.Join(dir, "quite", "another place"), filepath.Join(dir, "home")
	for _, d := range []string{elsewhere, home, second} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, command(elsewhere, "tar", "-xzf", filepath.Join(first, tarball(t)), "--strip-components=1", "--no-same-owner"))
	run(t, command(dir, "chown", "-R", "nobody:", elsewhere, home, second))
	again := command(elsewhere, "sh", "-c", `umask 077 && exec packaging/release "$0"`, second)
	again.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8",
		"GOCACHE=" + filepath.Join(home, "cache"), "GOMODCACHE=" + filepath.Join(home, "none"), "GOPROXY=off", "GOAMD64=v3"}
	again.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		Cloneflags: syscall.CLONE_NEWNET,
	}
	run(t, again)
	if got := read(t, filepath.Join(second, "SHA256SUMS")); got != sums {
		t.Errorf("rebuilt elsewhere:\n%swant:\n%s", got, sums)
	}
	t.Logf("built twice:\n%s", sums)
}

// The tarball of a checkout is the same as that of another checkout of the
// same commit, whatever its modes and times.
func TestTarballIsReproducible(t *testing.T) {
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
