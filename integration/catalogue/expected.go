// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"debug/buildinfo"
	_ "embed" // for the table
	"slices"
	"strings"

	"containerd-shim.v1/integration/harness"
)

// A table of verdicts: a line with the releases, then a line for each check with its id
// and a letter for each release. P means that the release passes, F that it fails, ? that
// it may do either, because the bug is a race that the check cannot force there; a comment
// after "#" says why. A dot means that nothing is known yet.
var (
	//go:embed expected.txt
	expectedV1 string // of v1 shims
	//go:embed expected-v2.txt
	expectedV2 string // of v2 shims
)

// Ours is the column of this project's shim, which passes every check.
const Ours = "ours"

// Releases lists the upstream releases whose verdicts are known: those of v1 shims, then
// those of v2 shims.
func Releases() []string { return append(releases(expectedV1), releases(expectedV2)...) }

// releases are those of one table.
func releases(table string) []string { return strings.Fields(strings.SplitN(table, "\n", 2)[0])[1:] }

// letter returns the letter for a check on a release, or "" if it has none.
func letter(release, id string) string {
	for _, table := range []string{expectedV1, expectedV2} {
		column := slices.Index(releases(table), release)
		for line := range strings.Lines(table) {
			if f := strings.Fields(line); column >= 0 && len(f) > column+1 && f[0] == id {
				return f[column+1]
			}
		}
	}
	return ""
}

// Expected returns the verdict of a check on a release; ok is false if it is not
// known, or may be either.
func Expected(release, id string) (v harness.Verdict, ok bool) {
	if release == Ours {
		return harness.Pass, true
	}
	switch letter(release, id) {
	case "P":
		return harness.Pass, true
	case "F":
		return harness.Fail, true
	}
	return "", false
}

// Either reports whether a release may both pass and fail a check ("?").
func Either(release, id string) bool { return letter(release, id) == "?" }

// Known reports whether the table has a letter for the check id, even if it is "?".
func Known(id string) bool {
	return slices.ContainsFunc(Releases(), func(r string) bool { return letter(r, id) != "" })
}

// Conformance reports whether a check passes on every known release of which its verdict
// is known, and on one at least: it finds no bug of theirs, but says what must stay as it is.
func Conformance(id string) bool {
	passes := false
	for _, r := range Releases() {
		switch letter(r, id) {
		case "P":
			passes = true
		case "F", "?":
			return false
		}
	}
	return passes
}

// upstream is the module whose version is the release.
const upstream = "github.com/containerd/containerd"

// v2Prefix is before the release in the name of a v2 shim's column.
const v2Prefix = "runc-v2-"

// debian are Debian's packages. They are built without modules, so that no version is
// recorded.
var debian = []struct{ path, toolchain, release string }{
	{upstream + "/cmd/", "go1.19", "debian-1.6.20"},   // bookworm
	{upstream + "/v2/cmd/", "go1.27", "debian-2.1.9"}, // sid, in autumn 2026
}

// Release returns the release from which the shim at path was built, according to the
// build info in the program, or "" if it is not a known one.
func Release(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	if info.Main.Path == "containerd-shim.v1" && info.Path == "containerd-shim.v1/cmd/containerd-shim" {
		return Ours
	}
	version := ""
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == upstream || m.Path == upstream+"/v2" {
			version = m.Version
		}
	}
	if version == "" {
		for _, d := range debian {
			if strings.HasPrefix(info.Path, d.path) && strings.HasPrefix(info.GoVersion, d.toolchain) {
				version = d.release
			}
		}
	}
	if strings.HasSuffix(info.Path, "/cmd/containerd-shim-runc-v2") {
		version = v2Prefix + version
	}
	if slices.Contains(Releases(), version) {
		return version
	}
	return ""
}
