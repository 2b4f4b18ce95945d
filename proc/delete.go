// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"time"

	"containerd-shim.v1/internal/errclass"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Delete removes the container and what Create made. A container that was
// created but never started is killed by it.
func (p *Init) Delete(ctx context.Context) error {
	if err := p.ask(WantDelete); err != nil {
		return err
	}
	return p.remove(ctx, false)
}

// Destroy kills the container, whatever its phase and whatever else runs, and
// removes it. The shim is about to end.
func (p *Init) Destroy(ctx context.Context) error {
	if child := p.Child(); child != nil {
		_ = child.Signal(unix.SIGKILL) // it may be dead
		phase := p.Snapshot().Phase
		p.KillRest(ctx, phase == Paused || phase == Pausing)
		p.env.killAndWait(child)
	}
	return p.remove(ctx, true)
}

func (p *Init) remove(ctx context.Context, force bool) error {
	// A failed restore may leave more than the runtime deletes without force.
	remove := func(ctx context.Context) error { return p.runtime.Delete(ctx, p.id, force || p.Absent()) }
	var err error
	if force {
		err = insist(ctx, remove) // nobody asks again
	} else {
		err = remove(ctx)
	}
	if err == nil {
		p.awaitExit()
	}
	p.mu.Lock()
	io, child := p.io, p.child
	p.mu.Unlock()
	if io != nil {
		if child == nil {
			io.Abort() // a restore that Destroy has cut short: no process will come
		}
		io.AwaitOutput(p.env.Streams.DrainFlowing)
	}
	// Unmounting comes last, and also when the runtime failed: containerd
	// removes the bundle next.
	err = errors.Join(err, p.rootfs.unmount())
	if err != nil {
		return err
	}
	if io != nil {
		io.ProcessDeleted()
	}
	p.endAttempt() // of a checkpoint that was never restored
	return p.apply(DidDelete)
}

// awaitExit waits for the exit of a process that the runtime has just killed
// and whose exit somebody else records.
func (p *Init) awaitExit() {
	p.mu.Lock()
	child, a := p.child, p.attempt
	p.mu.Unlock()
	if child == nil {
		return
	}
	timer := time.NewTimer(p.env.Limits.Exit)
	defer timer.Stop()
	select {
	case <-a.done:
		return
	default:
	}
	_ = child.Signal(unix.SIGKILL) // its container is gone; it may be, too
	select {
	case <-a.done:
	case <-timer.C:
	}
}

// SharesPids reports whether processes of the container may outlive its init.
func (p *Init) SharesPids() bool { return p.sharedPids }

// KillRest kills every process that is left in the container after its init
// has died. A frozen one is thawed first, or nothing in it could die: the kill of runc
// 1.1.5 thaws it, that of 1.3.6 does not.
func (p *Init) KillRest(ctx context.Context, wasPaused bool) {
	if wasPaused || p.sharedPids && p.diedUnseen && p.isPaused(ctx) {
		if err := p.limited(ctx, func(ctx context.Context) error { return p.runtime.Resume(ctx, p.id) }); err != nil {
			p.warn(err, "resume a container that died while paused")
		}
	}
	if !p.sharedPids {
		return // the kernel has killed them with init (pid_namespaces(7))
	}
	err := killError(p.limited(ctx, func(ctx context.Context) error {
		return p.runtime.Kill(ctx, p.id, int(unix.SIGKILL), true)
	}))
	if err != nil && !errdefs.IsNotFound(err) {
		p.warn(err, "kill what is left in the container")
	}
}

// limited is insist within Limits.Kill, for a verb that no client would repeat.
func (p *Init) limited(ctx context.Context, verb func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.env.Limits.Kill)
	defer cancel()
	return insist(ctx, verb)
}

// insist calls verb, and again until ctx ends as long as the runtime cannot be started
// for want of memory, processes or descriptors.
func insist(ctx context.Context, verb func(context.Context) error) error {
	var ran error
	_, err := errclass.WhileExhausted(ctx, func() (_ struct{}, err error) {
		if ran = verb(ctx); neverRan(ran) {
			err = ran
		}
		return
	})
	return firstError(err, ran)
}

// isPaused asks the runtime. runc says so even if init is dead; crun
// says stopped then, but its kill thaws it.
func (p *Init) isPaused(ctx context.Context) bool {
	var status string
	err := p.limited(ctx, func(ctx context.Context) (err error) { status, err = p.runtime.Status(ctx, p.id); return err })
	if err != nil {
		p.warn(err, "whether the dead container is paused")
	}
	return status == "paused"
}
