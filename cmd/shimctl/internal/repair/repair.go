// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// ErrNotHealed is returned if the shim was killed, but something that should be
// gone is still there.
var ErrNotHealed = errors.New("killed, but not healed")

// Kill kills the process that was judged, and no other.
func Kill(root string, s *scan.Shim) error { return scan.Signal(root, s, unix.SIGKILL) }

// watch is how often Verify looks, and askLimit bounds each question to the daemon.
const (
	watch    = 200 * time.Millisecond
	askLimit = 5 * time.Second
)

// Verify waits until shim, zombies, init and the daemon's task are gone.
func Verify(ctx context.Context, root string, c *Case, d Daemon, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(watch)
	defer tick.Stop()
	for {
		left := remaining(ctx, root, c, d)
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w after %s: %s", ErrNotHealed, limit, strings.Join(left, "; "))
		case <-tick.C:
		}
	}
}

func remaining(ctx context.Context, root string, c *Case, d Daemon) (left []string) {
	if scan.Alive(root, c.Shim.PID, c.Shim.StartTicks) {
		left = append(left, fmt.Sprintf("the shim %d is alive", c.Shim.PID))
	}
	zombies := 0
	for _, z := range c.Shim.Zombies {
		if p, ok := scan.Any(root, z.PID); ok && p.StartTicks == z.StartTicks {
			zombies++
		}
	}
	if zombies > 0 {
		left = append(left, fmt.Sprintf("%d of its children are unreaped", zombies))
	}
	if p, ok := scan.Any(root, c.Shim.Init.PID); ok && p.StartTicks == c.Shim.Init.StartTicks {
		left = append(left, fmt.Sprintf("the container's init %d is there (state %s)", p.PID, p.State))
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	gone, err := d.TaskGone(ctx, c.Shim.Namespace, c.Shim.ID, c.Shim.Init.PID)
	switch {
	case err != nil:
		left = append(left, err.Error())
	case !gone:
		left = append(left, "containerd still lists the task")
	}
	return left
}

// Lock takes the host's repair lock: two repairs at once would not see each other
// in the ledger. It is released when the file is closed.
func Lock(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another repair is running on this host")
		}
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}
