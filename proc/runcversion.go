// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"strconv"
	"strings"

	"containerd-shim.v1/reaper"
)

// IgnoresKillAll asks the runtime for its version once.
func (r *runcRuntime) IgnoresKillAll(ctx context.Context) bool {
	if answer := r.ignoresKillAll.Load(); answer != nil {
		return *answer
	}
	out, err := r.call(ctx, r.Timeout, reaper.Command{}, nil, "--version")
	if err != nil {
		return false // the next call asks again
	}
	_, text, _ := strings.Cut(string(out), "runc version ")
	line, _, _ := strings.Cut(text, "\n")
	answer := sinceRunc12(line)
	r.ignoresKillAll.Store(&answer)
	return answer
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
