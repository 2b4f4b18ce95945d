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

	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
)

// binaryNames are the names that containerd's executable has had.
var binaryNames = []string{"containerd", "docker-containerd"}

// candidates returns the paths to try: the one that was given, without the suffix
// that the kernel appends once a running executable was replaced (proc(5)), the
// other names in its directory, and the names in PATH.
func (p *Publisher) candidates() []string {
	path := strings.TrimSuffix(p.c.Binary, " (deleted)")
	var all []string
	add := func(name string) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
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

// run runs "containerd publish" for the daemon at address.
func (p *Publisher) run(ctx context.Context, address string, e *types.Envelope) error {
	event, err := proto.Marshal(e.Event)
	if err != nil {
		return err
	}
	err = errors.New("no containerd binary")
	for _, path := range p.candidates() {
		err = p.runOne(ctx, path, address, e, event)
		if err == nil || !missing(err) {
			break
		}
	}
	return err
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrPermission)
}

func (p *Publisher) runOne(ctx context.Context, path, address string, e *types.Envelope, event []byte) error {
	ctx, cancel := context.WithTimeout(ctx, binaryTimeout)
	defer cancel()
	out, status, err := p.c.Monitor.Run(ctx, reaper.Command{
		Args:  []string{path, "--address", address, "publish", "--topic", e.Topic, "--namespace", e.Namespace},
		Input: event,
	})
	switch {
	case ctx.Err() != nil && status != 0:
		return fmt.Errorf("%s publish: ended by us: %w", path, ctx.Err())
	case err != nil:
		return fmt.Errorf("%s publish: %w", path, err)
	case status != 0:
		return fmt.Errorf("%s publish: exit status %d: %.512s", path, status, bytes.TrimSpace(out))
	}
	return nil
}
