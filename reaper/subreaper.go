// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SetSubreaper makes this process the one to which orphaned descendants are
// re-parented (prctl(2), PR_SET_CHILD_SUBREAPER, since Linux 3.4). runc's
// container init is such an orphan. Before Linux 4.11 the orphans of processes
// that were exec'd into a container's pid namespace come here too.
func SetSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	return nil
}
