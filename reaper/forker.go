// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Forker runs every fork of the process on one OS thread that lives as long as
// the Forker. PR_SET_PDEATHSIG follows the thread that forked, not the process
// (prctl(2)): a child of a short-lived thread would be killed for no reason
// (golang/go #27505), and locking a thread per running child, the usual cure,
// leaves one idle thread behind for each child of a burst.
//
// Exec runs on that thread, too: execve(2) ends all others. In a subreaper it must be the
// process's first thread. The kernel gives orphans to the first thread that is alive
// (find_new_reaper in exit.c), and one that has asked for a signal at its parent's death
// would get it when that thread ends.
type Forker struct {
	// work carries one fork at a time; closed by Close.
	work chan func()
	// ended is closed when the thread has run its last fork.
	ended chan struct{}
	// files is the RLIMIT_NOFILE of children; nil while package syscall sees to
	// that. A Go program raises its own at its start, and gives its children the
	// old one, until syscall.Exec has failed. The forking thread's.
	files *unix.Rlimit
}

// NewForker returns a Forker. The caller calls Run on the thread that is to fork.
func NewForker() *Forker {
	return &Forker{work: make(chan func()), ended: make(chan struct{})}
}

// StartForker returns a Forker with a thread of its own, for a process that executes no
// other program.
func StartForker() *Forker {
	f := NewForker()
	go f.Run()
	return f
}

// Run forks on the calling goroutine's thread, to which it locks the goroutine for good,
// until Close.
func (f *Forker) Run() {
	defer close(f.ended)
	// Never unlocked: when this goroutine ends, so does the thread.
	runtime.LockOSThread()
	// Children inherit the signal mask of the thread that forks. A program that was executed
	// in place of another has all signals blocked, and some pending, until its handlers are
	// up and it has called Redeliver: by then nothing is forked. See Exec.
	unblock := sync.OnceFunc(func() { _ = unix.PthreadSigmask(sigSetmask, new(unix.Sigset_t), nil) }) // cannot fail
	for fn := range f.work {
		unblock()
		fn()
	}
}

// do runs fn on the forking thread and returns when fn has; or ctx's cause if its end
// comes first, and fn is not run then.
func (f *Forker) do(ctx context.Context, fn func()) error {
	done := make(chan struct{})
	select {
	case f.work <- func() { defer close(done); fn() }:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// limitFiles sets the limit of files to that of children, until restore is
// called. It is for the forking thread.
func (f *Forker) limitFiles() (restore func()) {
	if f.files == nil {
		return func() {}
	}
	own, err := setFiles(f.files)
	if err != nil {
		return func() {}
	}
	return func() { _, _ = setFiles(&own) } // it was so before
}

// Close ends Run, and waits for the fork that is underway. Nobody may fork any more.
func (f *Forker) Close() {
	close(f.work)
	<-f.ended
}
