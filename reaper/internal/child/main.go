// SPDX-License-Identifier: Apache-2.0

// Command child is what the reaper's tests start: a process that acts one of
// the roles below. A shell would not do, it reaps its own children; the test
// binary would not do either, the race detector makes its start slow.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"containerd-shim.v1/reaper"

	"golang.org/x/sys/unix"
)

var roles = map[string]func(args []string){
	// exit CODE
	"exit": func(args []string) { os.Exit(number(args[0])) },
	// wait: until stdin ends, then exit CODE
	"wait": func(args []string) {
		_, _ = os.Stdin.Read(make([]byte, 1)) // returns at EOF, which is all that is waited for
		os.Exit(number(args[0]))
	},
	// die SIGNAL, of the kernel's doing: Go's own handler raises the signal again,
	// and on a busy machine exits with 2 before it arrives (runtime.dieFromSignal).
	"die": func(args []string) {
		sig := number(args[0])
		dfl := struct{ handler, flags, restorer, mask uintptr }{}                                                  // SIG_DFL
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&dfl)), 0, 8, 0, 0) // EINVAL of SIGKILL
		_ = unix.Kill(os.Getpid(), unix.Signal(sig))
		select {}
	},
	// orphans N CODE: leave N children behind and exit; the reaper gets them.
	// They wait for fd 3 to end, exit with CODE, and print their pids first.
	"orphans": func(args []string) {
		gate := os.NewFile(3, "gate")
		for range number(args[0]) {
			c := exec.Command(os.Args[0], "wait", args[1])
			c.Stdin = gate
			if err := c.Start(); err != nil {
				fail(err)
			}
			fmt.Println(c.Process.Pid)
		}
	},
	// spew N: write N bytes, then exit 3
	"spew": func(args []string) {
		line := []byte(fmt.Sprintf("%063d\n", 7))
		for n := number(args[0]); n > 0; n -= len(line) {
			if _, err := os.Stdout.Write(line); err != nil {
				fail(err)
			}
		}
		os.Exit(3)
	},
	// hold: leave a child that keeps stdout open, exit 0; the child waits on fd 3
	"hold": func([]string) {
		c := exec.Command(os.Args[0], "wait", "0")
		c.Stdin = os.NewFile(3, "gate")
		c.Stdout = os.Stdout
		if err := c.Start(); err != nil {
			fail(err)
		}
		fmt.Println("left")
	},
	"cat": func([]string) {
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fail(err)
		}
	},
	// limits: print the limits of files before and after an Exec that fails
	"limits": func([]string) {
		r := reaper.New(reaper.StartForker())
		m := reaper.NewMonitor(r, reaper.DefaultLimits())
		for range 2 {
			var own unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
				fail(err)
			}
			out, _, err := m.Run(context.Background(), reaper.Command{Args: []string{"/bin/sh", "-c", "ulimit -Sn"}})
			if err != nil {
				fail(err)
			}
			which := "raised"
			if own.Cur < 1000 {
				which = fmt.Sprint(own.Cur)
			}
			fmt.Printf("own %s, a child's %s", which, out)
			if err := r.Exec(context.Background(), "/", []string{"/"}, nil, nil, nil); err == nil {
				fail(errors.New("a directory was executed"))
			}
		}
	},
	// exchange PROGRAM: execute it as "told"; exit 8 at a SIGTERM if that fails
	"exchange": func(args []string) {
		idleThreads() // execve(2) lets none be made
		told := make(chan os.Signal, 1)
		signal.Notify(told, unix.SIGTERM)
		_ = reaper.New(reaper.StartForker()).Exec(context.Background(), args[0], []string{args[0], "told"}, os.Environ(), nil, told) // it fails if that is tried
		<-told
		os.Exit(8)
	},
	// told: executed by Exec; exit 7 at a SIGTERM. The first thread waits for work by then.
	"told": func([]string) {
		forks := reaper.NewForker()
		go func() {
			told := make(chan os.Signal, 1)
			signal.Notify(told, unix.SIGTERM)
			for stacks := make([]byte, 1<<16); !waits(stacks[:runtime.Stack(stacks, true)]); {
				runtime.Gosched()
			}
			reaper.Redeliver()
			<-told
			os.Exit(7)
		}()
		forks.Run()
	},
	// unpolled: run a command that ends, and one that does not, where the poller takes no
	// more descriptors
	"unpolled": func(args []string) {
		m := reaper.NewMonitor(reaper.New(reaper.StartForker()), reaper.DefaultLimits())
		_, _, _ = m.Run(context.Background(), reaper.Command{Args: []string{"/bin/true"}}) // what is polled for good, is
		refuse(unix.SYS_EPOLL_CTL, unix.ENOSPC)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, command := range []string{"echo said; exit 3", "echo said; exec sleep infinity"} {
			out, status, err := m.Run(ctx, reaper.Command{Args: []string{"/bin/sh", "-c", command}, Pdeathsig: unix.SIGKILL})
			fmt.Printf("%s%d %v\n", out, status, err)
		}
	},
	"env": func([]string) {
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
	},
}

// refuse has a system call fail in all threads from now on.
func refuse(call uint32, errno unix.Errno) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number, seccomp_data's first field
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if err != 0 {
		fail(err)
	}
}

func main() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		fail(fmt.Errorf("no such role: %q", os.Args[1:]))
	}
	roles[os.Args[1]](os.Args[2:])
}

// The first thread is main's, as a shim's is.
func init() { runtime.LockOSThread() }

// waits reports whether a Forker waits for work.
func waits(stacks []byte) bool {
	for g := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(g, []byte("(*Forker).Run")) && bytes.Contains(g, []byte("[chan receive")) {
			return true
		}
	}
	return false
}

// idleThreads makes ten threads, as a shim does when it starts, and waits until the Go
// runtime makes no other and six wait for work: of the others, two may run Go code
// (GOMAXPROCS), and two look for such.
func idleThreads() {
	var made, listed sync.WaitGroup
	var tids [10]int
	made.Add(len(tids))
	for i := range tids {
		listed.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tids[i] = unix.Gettid()
			made.Done()
			made.Wait() // a thread for each
		})
	}
	listed.Wait()
	for !idle(tids[:]) {
		runtime.Gosched()
	}
}

func idle(tids []int) bool {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		fail(err)
	}
	total := []metrics.Sample{{Name: "/sched/threads/total:threads"}}
	metrics.Read(total)
	if v := total[0].Value; v.Kind() == metrics.KindUint64 && v.Uint64() != uint64(len(tasks)) { // since Go 1.26
		return false
	}
	asleep := 0
	for _, tid := range tids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
		if err != nil {
			fail(err)
		}
		if bytes.Contains(stat, []byte(") S ")) {
			asleep++
		}
	}
	return asleep >= 6
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fail(err)
	}
	return n
}
