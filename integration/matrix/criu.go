// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/containerd/api/services/snapshots/v1"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/runtime/linux/runctypes"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/daemons"
	"containerd-shim.v1/integration/harness/wait"
)

// withoutBreakpoints tells CRIU not to use the processor's breakpoints, which some virtual
// machines accept and never hit: it would wait for ever.
const withoutBreakpoints = "CRIU_FAULT=130"

func (b *bench) checkpoint(ctx context.Context) error {
	if err := b.pair.criu().check(ctx, "criu"); err != nil { // only now: the cell of make test has not its libraries
		return err
	}
	return errors.Join(b.frozen(ctx, "pipes", false), b.frozen(ctx, "terminal", true))
}

// frozen has a container that counts written to an image, first while it goes on, then
// with its end, and restores it from the second image. It must count on.
func (b *bench) frozen(ctx context.Context, how string, terminal bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("with %s: %w", how, err)
		}
	}()
	id := "frozen-" + how
	create := []string{"containers", "create", "--runtime", daemons.Runtime, daemons.ImageName, id,
		"awk", `BEGIN { while (1) { print ++n; system("sleep 0.1") } }`} // ctr would take the -c of sh for its own
	if terminal {
		create = append(create[:2:2], append([]string{"--tty"}, create[2:]...)...)
	}
	b.rig.Note(b.rig.Name, id)
	if err := succeeds(b.rig.Ctr(ctx, create...)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.rig.Remove(ctx, id)) }()
	// In a directory of its own, which ctr removes with the task.
	dir := filepath.Join(b.rig.Dir, "output-"+id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	out, err := count(filepath.Join(dir, "fifo"))
	if err != nil {
		return err
	}
	defer out.close()
	request := &tasks.CreateTaskRequest{ContainerID: id, Terminal: terminal, Stdout: out.path}
	if err := errors.Join(b.create(ctx, request, nil), out.advances()); err != nil {
		return err
	}
	first, err := b.image(ctx, id, "goes-on", false, terminal)
	if err != nil {
		return err
	}
	// A daemon that keeps the image itself fails if it has the container's spec already.
	for _, d := range first {
		if err := succeeds(b.rig.Ctr(ctx, "content", "rm", d.Digest)); err != nil {
			return err
		}
	}
	if err := errors.Join(b.becomes(ctx, id, task.Status_RUNNING), out.advances()); err != nil {
		return fmt.Errorf("after a checkpoint without exit: %w", err)
	}
	kept, err := b.image(ctx, id, "ends", true, terminal)
	if err != nil {
		return err
	}
	if err := b.becomes(ctx, id, task.Status_STOPPED); err != nil {
		return fmt.Errorf("after a checkpoint with exit: %w", err)
	}
	if _, err := b.api.Delete(b.call(ctx), &tasks.DeleteTaskRequest{ContainerID: id}); err != nil {
		return err
	}
	options := &runctypes.CreateOptions{Terminal: terminal}
	if len(kept) > 0 {
		request.Checkpoint = kept[0]
	} else {
		options.CriuImagePath = b.imagePath(id, "ends")
	}
	if err := b.create(ctx, request, options); err != nil {
		err = b.logs(fmt.Errorf("restore: %w", err), id)
		// There is no process, so ctr does not list the task; what is there of it goes with it.
		_, deleteErr := b.api.Delete(b.call(ctx), &tasks.DeleteTaskRequest{ContainerID: id})
		return errors.Join(err, deleteErr)
	}
	// The copy from which such a daemon has restored it stays where it was.
	copies, _ := filepath.Glob(filepath.Join(b.rig.Dir, "tmp", "ctrd-checkpoint*")) // the pattern is right
	for _, dir := range copies {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return errors.Join(b.becomes(ctx, id, task.Status_RUNNING), out.advances(),
		gives(b.ctrExec(ctx, id, "e1", nil, "sh", "-c", "exit 21"), ended{code: 21}),
		succeeds(b.rig.Ctr(ctx, "tasks", "kill", "--signal", "SIGKILL", id)), b.becomes(ctx, id, task.Status_STOPPED))
}

// create creates and starts a task.
func (b *bench) create(ctx context.Context, request *tasks.CreateTaskRequest, options *runctypes.CreateOptions) error {
	mounts, err := snapshots.NewSnapshotsClient(b.conn).Mounts(b.call(ctx), &snapshots.MountsRequest{Snapshotter: "overlayfs", Key: request.ContainerID})
	if err != nil {
		return err
	}
	request.Rootfs = mounts.Mounts
	if options != nil {
		if request.Options, err = typed("CreateOptions", options); err != nil {
			return err
		}
	}
	if _, err := b.api.Create(b.call(ctx), request); err != nil {
		return err
	}
	_, err = b.api.Start(b.call(ctx), &tasks.StartRequest{ContainerID: request.ContainerID})
	return err
}

func typed(name string, m proto.Message) (*anypb.Any, error) {
	value, err := proto.Marshal(m)
	return &anypb.Any{TypeUrl: "containerd.linux.runc." + name, Value: value}, err
}

// imagePath is where the image of a container is, unless the daemon keeps it.
func (b *bench) imagePath(id, name string) string {
	return filepath.Join(b.rig.Dir, "images", id, name)
}

// image writes the container to a directory. Daemons that know no such directory keep the
// image themselves, and return its name and that of the container's spec.
func (b *bench) image(ctx context.Context, id, name string, exit, terminal bool) ([]*types.Descriptor, error) {
	path := b.imagePath(id, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	options, err := typed("CheckpointOptions", &runctypes.CheckpointOptions{Exit: exit, Terminal: terminal, ImagePath: path})
	if err != nil {
		return nil, err
	}
	got, err := b.api.Checkpoint(b.call(ctx), &tasks.CheckpointTaskRequest{ContainerID: id, Options: options})
	if err != nil {
		return nil, b.logs(fmt.Errorf("checkpoint: %w", err), id)
	}
	return got.Descriptors, nil
}

// logs adds to err what CRIU calls an error.
func (b *bench) logs(err error, id string) error {
	files := []string{filepath.Join(filepath.Dir(b.rootfs(id, "")), "criu-dump.log"),
		filepath.Join(b.rig.Dir, "root", daemons.Runtime, b.rig.Name, id, "restore.log")}
	var said []string
	for _, f := range files {
		text, _ := os.ReadFile(f) // there may be none
		for _, line := range strings.Split(string(text), "\n") {
			if strings.Contains(line, "Error (") {
				said = append(said, line)
			}
		}
	}
	return fmt.Errorf("%w; CRIU: %s", err, strings.Join(said[:min(6, len(said))], "; "))
}

// counter reads the numbers that a container writes.
type counter struct {
	path string
	fifo *os.File

	mu   sync.Mutex
	last int
	gap  string // the first line that is not the next number
}

// count makes a FIFO and reads it until close.
func count(path string) (*counter, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // with a writer, so that no task's end is the end
	if err != nil {
		return nil, err
	}
	c := &counter{path: path, fifo: f}
	go func() {
		for lines := bufio.NewScanner(f); lines.Scan(); {
			line := strings.TrimSpace(lines.Text()) // a terminal's has a carriage return
			c.mu.Lock()
			c.last++
			if line != fmt.Sprint(c.last) && c.gap == "" {
				c.gap = fmt.Sprintf("got %q, want %d", line, c.last)
			}
			c.mu.Unlock()
		}
	}()
	return c, nil
}

func (c *counter) close() { c.fifo.Close() }

func (c *counter) now() (int, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.gap
}

// advances waits for the next numbers, and looks back at all of them.
func (c *counter) advances() error {
	first, _ := c.now()
	err := wait.For(soon, "the container counts on", func() bool { n, _ := c.now(); return n > first+3 })
	if _, gap := c.now(); gap != "" {
		err = errors.Join(err, errors.New("its output: "+gap))
	}
	return err
}
