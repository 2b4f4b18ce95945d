// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// releases returns containerd's, oldest first.
func releases() []program {
	return slices.DeleteFunc(slices.Clone(daemonPrograms), func(p program) bool { return p.kind() != "containerd" })
}

// home is where a release is while all of them are in one root file system.
func (p program) home() string { return filepath.Join("/usr/libexec", p.dir) }

func (p program) version() string { _, version, _ := strings.Cut(p.name, " "); return version }

// abstract reports whether shims of this release have an abstract socket, and whether it
// looks for no other one. Later releases write a shim's address into its bundle.
func (p program) abstract() bool { return p.built() }

// finds reports whether this release finds a shim that the other has started.
func (p program) finds(started program) bool { return !p.abstract() || started.abstract() }

// forgetsNUL reports whether the release is built with a Go that does not count a NUL at
// the end into the name of an abstract socket, as all did when those were in use. It does
// not find them, unless their address is written into the bundles, with the NUL.
func (p program) forgetsNUL() bool { return p.dir == "trixie" }

// address tells the next release the address of a shim that has an abstract socket, or
// takes it back: a release that counts the NUL would count it twice.
func (b *bench) address(next program, id string) error {
	file := filepath.Join(filepath.Dir(b.rootfs(id, "")), "address")
	if next.forgetsNUL() {
		return os.WriteFile(file, []byte("/containerd-shim/"+b.rig.Name+"/"+id+"/shim.sock\x00"), 0o644)
	}
	if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// way is where the releases are on their way up and down.
type way struct {
	at     int               // the release that runs
	living map[string]uint32 // container to pid
	born   map[string]program
}

func (b *bench) up(ctx context.Context) error {
	b.way.living, b.way.born = map[string]uint32{}, map[string]program{}
	all := releases()
	for i := range all {
		if i > 0 {
			if err := b.replace(ctx, all[i]); err != nil {
				return fmt.Errorf("%s to %s: %w", all[i-1].version(), all[i].version(), err)
			}
		}
		b.way.at = i
		if err := b.born(ctx, all[i], "up"); err != nil {
			return fmt.Errorf("a container under %s: %w", all[i].version(), err)
		}
	}
	return nil
}

func (b *bench) down(ctx context.Context) error {
	all := releases()
	if b.way.at != len(all)-1 {
		return fmt.Errorf("%w: the way up has ended at %s", errNotRun, all[b.way.at].version())
	}
	var note error
	for i := len(all) - 2; i >= 0; i-- {
		// Those whose shims it would not find must be gone before.
		for id, by := range b.way.born {
			if all[i].finds(by) {
				continue
			}
			note = remark("containers made under 1.4 or later were removed before 1.2 came back: it looks for a socket that their shims do not have")
			if err := b.forget(ctx, id); err != nil {
				return err
			}
		}
		if err := b.replace(ctx, all[i]); err != nil {
			return fmt.Errorf("%s to %s: %w", all[i+1].version(), all[i].version(), err)
		}
		b.way.at = i
		if err := b.born(ctx, all[i], "down"); err != nil {
			return fmt.Errorf("a container under %s: %w", all[i].version(), err)
		}
	}
	for id := range b.way.born {
		if err := b.forget(ctx, id); err != nil {
			return err
		}
	}
	return note
}

// born starts a container that the releases after this one will find.
func (b *bench) born(ctx context.Context, r program, direction string) error {
	id := direction + "-" + r.version()
	if _, err := b.sleeper(ctx, id); err != nil {
		return err
	}
	p, err := b.status(ctx, id)
	if err != nil {
		return err
	}
	b.way.living[id], b.way.born[id] = p.Pid, r
	return gives(b.ctrExec(ctx, id, "first", nil, "sh", "-c", "exit 20"), ended{code: 20})
}

func (b *bench) forget(ctx context.Context, id string) error {
	delete(b.way.living, id)
	delete(b.way.born, id)
	return b.rig.Remove(ctx, id)
}

// replace puts another release in the place of the one that runs, while one container
// ends, and looks at all of them. The one that ends is new, or, if the next release would
// not find it, that of the same release on its way up.
func (b *bench) replace(ctx context.Context, next program) error {
	ends := "ends"
	if next.finds(releases()[b.way.at]) {
		if _, err := b.sleeper(ctx, ends); err != nil {
			return err
		}
	} else {
		ends = "up-" + next.version()
		delete(b.way.living, ends)
		delete(b.way.born, ends)
	}
	victim, err := b.status(ctx, ends)
	if err != nil {
		return err
	}
	if err := b.rig.StopContainerd(syscall.SIGTERM); err != nil {
		return err
	}
	if err := syscall.Kill(int(victim.Pid), syscall.SIGKILL); err != nil {
		return err
	}
	b.rig.Daemon = filepath.Join(next.home(), "containerd")
	for id, by := range b.way.born {
		if !by.abstract() {
			continue
		}
		if err := b.address(next, id); err != nil {
			return err
		}
	}
	if err := errors.Join(wait.For(soon, "the process was reaped", func() bool { return !procfs.Exists(int(victim.Pid)) }),
		b.rig.StartContainerd(ctx)); err != nil {
		return err
	}
	if err := b.becomes(ctx, ends, task.Status_STOPPED); err != nil {
		return err
	}
	gone, err := b.api.Delete(b.call(ctx), &tasks.DeleteTaskRequest{ContainerID: ends})
	if err == nil && gone.ExitStatus != 137 {
		err = fmt.Errorf("the container that ended meanwhile: got exit status %d, want 137", gone.ExitStatus)
	}
	errs := []error{err, b.rig.Remove(ctx, ends)}
	for id, pid := range b.way.living {
		errs = append(errs, b.still(ctx, id, pid))
	}
	return errors.Join(errs...)
}

// still returns an error unless the container runs, is the same, and takes an exec, whose
// exit is published.
func (b *bench) still(ctx context.Context, id string, pid uint32) error {
	if err := b.becomes(ctx, id, task.Status_RUNNING); err != nil {
		return err
	}
	p, err := b.status(ctx, id)
	if err == nil && p.Pid != pid {
		err = fmt.Errorf("%s: got pid %d, want %d", id, p.Pid, pid)
	}
	if err != nil {
		return err
	}
	events, err := b.rig.Watch(ctx)
	if err != nil {
		return err
	}
	defer events.Close()
	return cmp.Or(gives(b.ctrExec(ctx, id, "again", nil, "sh", "-c", "echo out; exit 21"), ended{21, "out\n", ""}),
		b.exits(ctx, events, id, "again=21"))
}
