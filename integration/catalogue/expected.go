// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"debug/buildinfo"
	_ "embed" // for the table
	"slices"
	"strings"

	"containerd-shim.v1/integration/harness"
)

// expectedText is a table: a line with the releases, then a line for each check with
// its id and a letter for each release. P means that the release passes, F that it
// fails, ? that it may do either, because the bug is a race that the check cannot
// force there; a comment after "#" says why.
//
//go:embed expected.txt
var expectedText string

// Ours is the column of this project's shim, which passes every check.
const Ours = "ours"

// Releases lists the upstream releases whose verdicts are known.
func Releases() []string { return strings.Fields(strings.SplitN(expectedText, "\n", 2)[0])[1:] }

// letter returns the table's letter for a check on a release, or "" if it has none.
func letter(release, id string) string {
	column := slices.Index(Releases(), release)
	for line := range strings.Lines(expectedText) {
		if f := strings.Fields(line); column >= 0 && len(f) > column+1 && f[0] == id {
			return f[column+1]
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

// Known reports whether the table has a letter for the check id, even if it is "?".
func Known(id string) bool {
	return slices.ContainsFunc(Releases(), func(r string) bool { return letter(r, id) != "" })
}

// Conformance reports whether a check passes on every known release: it finds no bug
// of theirs, but says what must stay as it is.
func Conformance(id string) bool {
	for _, r := range Releases() {
		if v, ok := Expected(r, id); !ok || v != harness.Pass {
			return false
		}
	}
	return true
}

// upstream is the module whose version is the release.
const upstream = "github.com/containerd/containerd"

// Release returns the release from which the shim at path was built, according to the
// build info in the program, or "" if it is not a known one.
func Release(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	version := ""
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == upstream {
			version = m.Version
		}
	}
	switch {
	case info.Main.Path == "containerd-shim.v1" && info.Path == "containerd-shim.v1/cmd/containerd-shim":
		return Ours
	case version == "" && info.Path == upstream+"/cmd/containerd-shim":
		return "debian-1.6.20" // built without modules, so that no version is recorded
	}
	for _, r := range Releases() {
		if r == version {
			return r
		}
	}
	return ""
}
