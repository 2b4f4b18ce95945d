// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"debug/buildinfo"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// VERSION is the one source; everything that names a version agrees with it,
// and every binary with the commit.
func TestVersionsAgree(t *testing.T) {
	v := version(t)
	revision := strings.Fields(run(t, command(tree, "packaging/revision")))[0]
	dest := scratch(t)
	run(t, command(tree, "make", "-f", "mk/packaging.mk", "install", "DESTDIR="+dest, "PREFIX=/usr"))
	shim, shimctl := filepath.Join(dest, libexec), filepath.Join(dest, "usr/bin/shimctl")

	if got, want := run(t, command("/", shim, "-version")), "  Version:  "+v+"\n  Revision: "+revision+"\n"; !strings.Contains(got, want) {
		t.Errorf("containerd-shim -version: %q, want %q in it", got, want)
	}
	if got, want := run(t, command("/", shimctl, "version")), "shimctl "+v+" "+revision+"\n"; got != want {
		t.Errorf("shimctl version: %q, want %q", got, want)
	}
	if page := read(t, filepath.Join(dest, "usr/share/man/man1/shimctl.1")); !strings.Contains(page, `"shimctl `+v+`"`) {
		t.Errorf("shimctl.1 does not name version %s: %.80q", v, page)
	}
	for _, binary := range []string{shim, shimctl, filepath.Join(dest, "usr/bin/shimverify")} {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Path, "containerd-shim/cmd/"+filepath.Base(binary); got != want {
			t.Errorf("%s: build info names %s, want %s", binary, got, want)
		}
		// Not what git says: a tarball must give the same bytes as a checkout.
		if got := info.Main.Version; got != "(devel)" && got != "v"+v {
			t.Errorf("%s: build info names version %s, want none or v%s", binary, got, v)
		}
	}

	deb := strings.TrimSpace(run(t, command(tree, "dpkg-parsechangelog", "-l", "packaging/debian/changelog", "-S", "Version")))
	if !strings.HasPrefix(deb, v+"-") {
		t.Errorf("packaging/debian/changelog: %s, want %s-N", deb, v)
	}
	spec := read(t, filepath.Join(tree, "packaging/rpm/containerd-shim.spec"))
	for _, want := range []string{`(?m)^Version: +` + regexp.QuoteMeta(v) + `$`, `%changelog\n\* .* - ` + regexp.QuoteMeta(v) + `-\d+\n`} {
		if !regexp.MustCompile(want).MatchString(spec) {
			t.Errorf("containerd-shim.spec: no match for %s", want)
		}
	}

	// The changelog is about this version, or about the one that comes next.
	heads := regexp.MustCompile(`(?m)^## \[(.+?)\]`).FindAllStringSubmatch(read(t, filepath.Join(tree, "CHANGELOG.md")), -1)
	if len(heads) == 0 || (heads[0][1] != "Unreleased" && heads[0][1] != v) {
		t.Fatalf("CHANGELOG.md begins with %v, want Unreleased or %s", heads, v)
	}
	if heads[0][1] == "Unreleased" && len(heads) > 1 && heads[1][1] != v {
		t.Errorf("CHANGELOG.md: the last release is %s, want %s", heads[1][1], v)
	}
}
