// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"os"
	"path"
	"slices"
	"strings"
)

// builds are upstream's shims on which a test of exchanges runs. usual are those of
// `make upstream/build`; SHIM_BUILDS names others instead, such as "go1.15/v1.2.0", by their
// directories below SHIM_BASELINES.
func builds(usual ...string) []string {
	if named := strings.Fields(os.Getenv("SHIM_BUILDS")); len(named) > 0 {
		return named
	}
	return usual
}

// buildsOf are the builds of these releases, which have what the test is about.
func buildsOf(releases ...string) []string {
	return slices.DeleteFunc(builds(releases...), func(b string) bool { return !slices.Contains(releases, path.Base(b)) })
}
