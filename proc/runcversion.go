// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"strconv"
	"strings"
	"sync"

	runc "github.com/containerd/go-runc"
)

// versionCache remembers what "runc --version" said.
type versionCache struct {
	mu sync.Mutex
	// +checklocks:mu
	known bool
	// +checklocks:mu
	atMost bool // the answer
}

func (v *versionCache) get() (answer, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.atMost, v.known
}

func (v *versionCache) set(answer bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.atMost, v.known = answer, true
}

// IgnoresKillAll asks the runtime for its version once.
func (r *runcRuntime) IgnoresKillAll(ctx context.Context) bool {
	if answer, known := r.major12.get(); known {
		return answer
	}
	var text string
	err := r.call(ctx, "version", func(ctx context.Context, c *runc.Runc) error {
		v, err := c.Version(ctx)
		text = v.Runc
		return err
	})
	if err != nil {
		return false // asked again next time
	}
	answer := sinceRunc12(text)
	r.major12.set(answer)
	return answer
}

// sinceRunc12 tells whether a version such as "1.1.5+ds1" or "1.2.0-rc.1" is
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
