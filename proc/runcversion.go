// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"strconv"
	"strings"

	"containerd-shim.v1/reaper"
)

// IgnoresKillAll goes by the runtime's version.
func (r *runcRuntime) IgnoresKillAll(ctx context.Context) bool {
	_, text, _ := strings.Cut(r.versions(ctx), "runc version ")
	line, _, _ := strings.Cut(text, "\n")
	return sinceRunc12(line)
}

// isCrun reports whether the runtime is crun, which does not have all of runc's options.
func (r *runcRuntime) isCrun(ctx context.Context) bool {
	return strings.HasPrefix(r.versions(ctx), "crun version ")
}

// versions returns what the runtime says to --version, and asks it once; it is empty if
// that failed.
func (r *runcRuntime) versions(ctx context.Context) string {
	if said := r.said.Load(); said != nil {
		return *said
	}
	out, err := r.call(ctx, r.Timeout, reaper.Command{}, nil, "--version")
	if err != nil || len(out) == 0 {
		return "" // the next call asks again
	}
	said := string(out)
	r.said.Store(&said)
	return said
}

// sinceRunc12 reports whether a version such as "1.1.5+ds1" or "1.2.0-rc.1" is
// 1.2 or later. Other runtimes print no "runc version" line: text is empty.
func sinceRunc12(text string) bool {
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor, _, _ = strings.Cut(minor, "-")
	ma, err1 := strconv.Atoi(major)
	mi, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return false
	}
	return ma > 1 || ma == 1 && mi >= 2
}
