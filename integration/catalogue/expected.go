// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"debug/buildinfo"
	_ "embed" // for the table
	"slices"
	"strings"

	"containerd-shim.v1/integration/harness"
)

// expectedText is a table: a line of releases, then for each check its id and
// a letter for each release: P passes, F fails, ? either, because the bug is a
// race that the check cannot force there; what follows a "#" says why.
//
//go:embed expected.txt
var expectedText string

// Ours is the column of this project's shim, which passes every check.
const Ours = "ours"

// Releases lists the upstream releases whose verdicts are known.
func Releases() []string { return strings.Fields(strings.SplitN(expectedText, "\n", 2)[0])[1:] }

// letter is what the table has for a check on a release; "" is nothing.
func letter(release, id string) string {
	column := slices.Index(Releases(), release)
	for line := range strings.Lines(expectedText) {
		if f := strings.Fields(line); column >= 0 && len(f) > column+1 && f[0] == id {
			return f[column+1]
		}
	}
	return ""
}

// Expected is the verdict that a release has on a check; ok is false where
// nothing is known, or either is possible.
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

// Known reports whether the table has a verdict of the check id, be it that
// either is possible.
func Known(id string) bool {
	return slices.ContainsFunc(Releases(), func(r string) bool { return letter(r, id) != "" })
}

// Conformance reports whether a check passes on every release that is known: it
// finds no bug of theirs, it says what has to stay as it is.
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

// Release tells which release the shim at path was built from, as the Go
// toolchain recorded it; "" is none of the known.
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
		return "debian-1.6.20" // built outside of module mode: no version is recorded
	}
	for _, r := range Releases() {
		if r == version {
			return r
		}
	}
	return ""
}
