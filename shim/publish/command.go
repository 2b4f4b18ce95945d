// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"containerd-shim/reaper"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
)

const (
	// binaryFirst bounds the first run of "containerd publish" for an event,
	// each further one gets twice the time up to binaryMost: a hang must not
	// hold up the events behind it, a busy host may be slow for a while.
	binaryFirst = 5 * time.Second
	binaryMost  = 40 * time.Second
)

// binaryNames are the names that containerd's executable has had.
var binaryNames = []string{"containerd", "docker-containerd"}

// command runs "containerd publish".
type command struct {
	path    string
	monitor *reaper.Monitor
	timeout time.Duration
}

func newCommand(path string, m *reaper.Monitor) *command {
	return &command{path: path, monitor: m, timeout: binaryFirst}
}

// candidates returns what to try: the path that was given, without the suffix
// that the kernel gives to the executable of a process whose file was
// replaced (proc(5)), the other names beside it, and those in PATH.
func (b *command) candidates() []string {
	path := strings.TrimSuffix(b.path, " (deleted)")
	var all []string
	add := func(p string) {
		if p != "" && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	add(path)
	for _, name := range binaryNames {
		if filepath.IsAbs(path) {
			add(filepath.Join(filepath.Dir(path), name))
		}
	}
	for _, name := range binaryNames {
		add(name)
	}
	return all
}

func (b *command) publish(ctx context.Context, address string, e *types.Envelope) error {
	event, err := proto.Marshal(e.Event)
	if err != nil {
		return err
	}
	err = errors.New("no containerd binary")
	for _, path := range b.candidates() {
		err = b.run(ctx, path, address, e, event)
		if err == nil || !missing(err) {
			break
		}
	}
	if err == nil {
		b.timeout = binaryFirst
	} else if errors.Is(err, context.DeadlineExceeded) {
		b.timeout = min(2*b.timeout, binaryMost)
	}
	return err
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrPermission)
}

func (b *command) run(ctx context.Context, path, address string, e *types.Envelope, event []byte) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	out, status, err := b.monitor.Run(ctx, reaper.Command{
		Args:  []string{path, "--address", address, "publish", "--topic", e.Topic, "--namespace", e.Namespace},
		Input: event,
	})
	switch {
	case ctx.Err() != nil && status != 0:
		return fmt.Errorf("%s publish: no end within %v: %w", path, b.timeout, ctx.Err())
	case err != nil:
		return fmt.Errorf("%s publish: %w", path, err)
	case status != 0:
		return fmt.Errorf("%s publish: exit status %d: %.512s", path, status, bytes.TrimSpace(out))
	}
	return nil
}
