// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"debug/buildinfo"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// VERSION is the only source: everything that names a version agrees with it, and the
// binaries name the commit.
func TestVersionsAgree(t *testing.T) {
	t.Parallel()
	v := version(t)
	revision := strings.Fields(run(t, command(tree, "packaging/revision")))[0]
	dest := scratch(t)
	run(t, command(tree, "sh", "-c", `umask 077 && exec make -f mk/packaging.mk install DESTDIR="$0" PREFIX=/usr`, dest))
	shim, shimctl := filepath.Join(dest, libexec), filepath.Join(dest, "usr/bin/shimctl")

	if got, want := run(t, command("/", shim, "-version")), "  Version:  "+v+"\n  Revision: "+revision+"\n"; !strings.Contains(got, want) {
		t.Errorf("containerd-shim -version: %q, want %q in it", got, want)
	}
	if got, want := run(t, command("/", shimctl, "version")), "shimctl "+v+" "+revision+"\n"; got != want {
		t.Errorf("shimctl version: %q, want %q", got, want)
	}
	for _, d := range []string{"usr", "usr/bin", "usr/lib/containerd-shim", "usr/share/man/man8"} {
		if info, err := os.Stat(filepath.Join(dest, d)); err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != 0o755 {
			t.Errorf("installed under umask 077: %s has mode %o, want 755", d, got)
		}
	}
	// No file gives its user more rights, and nobody but root writes any.
	err := filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Type()&fs.ModeSymlink == 0 && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|0o022) != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if page := read(t, filepath.Join(dest, "usr/share/man/man1/shimctl.1")); !strings.Contains(page, `"shimctl `+v+`"`) {
		t.Errorf("shimctl.1 does not name version %s: %.80q", v, page)
	}
	shimverify := filepath.Join(dest, "usr/bin/shimverify")
	if got, want := run(t, command("/", shimverify, "--version")), "  Version:  "+v+"\n  Revision: "+revision+"\n"; !strings.Contains(got, want) {
		t.Errorf("shimverify --version: %q, want %q in it", got, want)
	}
	for _, binary := range []string{shim, shimctl, shimverify} {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Path, "containerd-shim.v1/cmd/"+filepath.Base(binary); got != want {
			t.Errorf("%s: build info names %s, want %s", binary, got, want)
		}
		// The version must not come from git: a tarball must give the same bytes as a
		// checkout.
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

	// The changelog begins with this version, or with the next one.
	heads := regexp.MustCompile(`(?m)^## \[(.+?)\]`).FindAllStringSubmatch(read(t, filepath.Join(tree, "CHANGELOG.md")), -1)
	if len(heads) == 0 || (heads[0][1] != "Unreleased" && heads[0][1] != v) {
		t.Fatalf("CHANGELOG.md begins with %v, want Unreleased or %s", heads, v)
	}
	if heads[0][1] == "Unreleased" && len(heads) > 1 && heads[1][1] != v {
		t.Errorf("CHANGELOG.md: the last release is %s, want %s", heads[1][1], v)
	}
}

// Every package that was built, and the shim in it, names the same version.
func TestVersionsOfPackagesAgree(t *testing.T) {
	t.Parallel()
	v, dir := version(t), scratch(t)
	debs, err := filepath.Glob(filepath.Join(made(t, "build-deb"), "*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	rpms, err := filepath.Glob(filepath.Join(made(t, "build-rpm"), "*.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	if len(debs) != 4 || len(rpms) != 5 {
		t.Fatalf("got packages %q and %q, want 4 and 5", debs, rpms)
	}
	for _, file := range debs {
		if got := run(t, command("/", "dpkg-deb", "--field", file, "Version")); got != v+"-1\n" {
			t.Errorf("%s: version %q, want %s-1", filepath.Base(file), got, v)
		}
		run(t, command("/", "dpkg-deb", "--extract", file, filepath.Join(dir, "deb")))
	}
	extracted := filepath.Join(dir, "rpm")
	if err := os.Mkdir(extracted, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range rpms {
		if got := run(t, command("/", "rpm", "--query", "--queryformat", "%{VERSION}-%{RELEASE}", "--package", file)); got != v+"-1" {
			t.Errorf("%s: version %q, want %s-1", filepath.Base(file), got, v)
		}
		run(t, command(extracted, "sh", "-c", `rpm2cpio "$0" | cpio --extract --make-directories --quiet`, file))
	}
	for kind, builder := range map[string]string{"deb": "build-deb", "rpm": "build-rpm"} {
		shim := filepath.Join(dir, kind, libexec)
		// The revision of the checkout in which it was built: this one may be newer.
		revision := strings.Fields(run(t, command(filepath.Join(built, "checkout-"+builder), "packaging/revision")))[0]
		if got, want := run(t, command("/", shim, "-version")), "  Version:  "+v+"\n  Revision: "+revision+"\n"; !strings.Contains(got, want) {
			t.Errorf("%s: containerd-shim -version: %q, want %q in it", kind, got, want)
		}
	}
	// They all have the same maintainer; see packaging/README.md.
	control := read(t, filepath.Join(tree, "packaging/debian/control"))
	maintainer, _, _ := strings.Cut(control[strings.Index(control, "Maintainer: ")+len("Maintainer: "):], "\n")
	for _, file := range []string{"debian/changelog", "rpm/containerd-shim.spec"} {
		if !strings.Contains(read(t, filepath.Join(tree, "packaging", file)), maintainer) {
			t.Errorf("packaging/%s does not name the maintainer of debian/control, %s", file, maintainer)
		}
	}
}
