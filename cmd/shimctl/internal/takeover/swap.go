// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// stateName is the file in the bundle in which a shim is handed over, as our own shim
// calls it.
const stateName = ".shim.state.json"

// Limits of a swap.
const (
	checkLimit  = 20 * time.Second
	answerLimit = 10 * time.Second // until the new program answers
	askLimit    = 2 * time.Second
	askEvery    = 20 * time.Millisecond
)

// ErrNotAnswering is returned when the program was exchanged and the new one does not
// answer.
var ErrNotAnswering = errors.New("the program was exchanged, and the new one does not answer")

// Refuse says why the shim cannot be taken over whatever it does at the moment, or "".
func Refuse(s *scan.Shim) string {
	switch {
	case runtime.GOARCH != "amd64":
		return "programs of " + runtime.GOARCH + " cannot be exchanged yet"
	case s.Kind != scan.V1:
		return "it is no v1 shim"
	case s.Build.Ours:
		return "it is this project's own, which exchanges its program by itself"
	case s.Tracer != 0:
		return fmt.Sprintf("process %d traces it; end that first", s.Tracer)
	case s.State == "T":
		return "it is stopped; send SIGCONT first"
	}
	if _, frozen := scan.Sleep("/proc", s.PID); frozen {
		return "its cgroup is frozen; thaw it first"
	}
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(b)) == "3" {
		return "kernel.yama.ptrace_scope is 3: nobody may trace until the next boot"
	}
	return ""
}

// CheckBinary says what is wrong with a new program for the shim, nil for nothing. path
// is as the shim sees it.
func CheckBinary(s *scan.Shim, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	its, err := os.Stat(seen(s, path))
	if err != nil {
		return err
	}
	name, err := onHost(path, its)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is no program", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 || info.Mode()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than root", path)
	}
	build, err := buildinfo.ReadFile(name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if build.Main.Path != scan.Module || !strings.HasSuffix(build.Path, "/cmd/containerd-shim") {
		return fmt.Errorf("%s is no shim of this project, but %s", path, build.Path)
	}
	f, err := elf.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s is for another architecture, %v", path, f.Machine)
	}
	return nil
}

// seen is a path of the shim's mount namespace as this process sees it.
func seen(s *scan.Shim, path string) string {
	return filepath.Join("/proc", strconv.Itoa(s.PID), "root", path)
}

// onHost is where this process finds the program that the shim calls path: in its own
// root, or, in a pod, in the host's. Anybody can start a process that looks like a shim,
// in a container, too; what that one has by the name would be run as the host's root.
func onHost(path string, its os.FileInfo) (string, error) {
	for _, name := range []string{path, filepath.Join("/proc/1/root", path)} {
		if info, err := os.Stat(name); err == nil && os.SameFile(info, its) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s is another file for the shim than on the host", path)
}

// Look says what a swap would do. It holds the shim for some milliseconds and changes
// nothing.
func (t Tracer) Look(ctx context.Context, s *scan.Shim, wedged bool, patience time.Duration) (*Outcome, error) {
	return t.Run(ctx, s, Request{Wedged: wedged}, patience)
}

func stateFile(s *scan.Shim) (string, error) {
	bundle, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(s.PID), "cwd"))
	return filepath.Join(bundle, stateName), err
}

// Swap exchanges the program for the binary, an absolute path, after the new program
// has been asked whether it can read what it is to take over. When it returns an error and
// Outcome.Swapped is not set the old program runs on.
func (t Tracer) Swap(ctx context.Context, s *scan.Shim, binary string, wedged bool, patience time.Duration) (*Outcome, error) {
	if why := Refuse(s); why != "" {
		return nil, errors.New(why)
	}
	if err := CheckBinary(s, binary); err != nil {
		return nil, err
	}
	file, err := stateFile(s)
	if err != nil {
		return nil, err
	}
	// The new program removes the state once it has read it. Until it is certain that
	// there will be none nobody else may: without the state it knows no container.
	old := true
	defer func() {
		if old {
			_ = os.Remove(seen(s, file))
		}
	}()
	req := Request{Wedged: wedged, StateFile: file}
	look, err := t.Run(ctx, s, req, patience)
	if err == nil {
		err = look.Err()
	}
	if err == nil {
		err = check(ctx, s, binary, file)
	}
	if err != nil {
		return look, err
	}
	req.Binary = binary
	old = false
	// What has begun is not cut short by whoever waits for it.
	outcome, err := t.Run(context.WithoutCancel(ctx), s, req, patience)
	if err == nil {
		old = !outcome.Swapped
		err = outcome.Err()
	}
	if errors.Is(err, ErrTracer) { // it may have come as far as that
		err = fmt.Errorf("%w; it runs the %s program", err, map[bool]string{true: "new", false: "old"}[Runs(s, binary)])
	}
	if err != nil {
		return outcome, err
	}
	return outcome, outcome.settle(ctx, s, binary)
}

// check runs the new program on the state, as a child.
func check(ctx context.Context, s *scan.Shim, binary, file string) error {
	args, err := list(filepath.Join("/proc", strconv.Itoa(s.PID), "cmdline"))
	if err != nil {
		return err
	}
	its, err := os.Stat(seen(s, binary))
	if err != nil {
		return err
	}
	name, err := onHost(binary, its)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, append(args[1:], "-adopt", seen(s, file), "-check")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot read what it is to take over: %w: %s", binary, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Runs reports whether the process runs the binary.
func Runs(s *scan.Shim, binary string) bool {
	var a, b unix.Stat_t
	err := errors.Join(unix.Stat(filepath.Join("/proc", strconv.Itoa(s.PID), "exe"), &a), unix.Stat(seen(s, binary), &b))
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// settle waits until the new program answers, and then sends the signals that the old
// one did not get.
func (o *Outcome) settle(ctx context.Context, s *scan.Shim, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	begun := time.Now()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		a := probe.Ask(ctx, "/proc", s, askLimit, true)
		if a.ShimInfo.OK && a.State.OK && Runs(s, binary) {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: ShimInfo: %s, State: %s", ErrNotAnswering, a.ShimInfo.Err, a.State.Err)
		case <-tick.C:
		}
	}
	o.Answered = time.Since(begun)
	for _, signal := range o.Signals {
		if err := scan.Signal("/proc", s, unix.Signal(signal)); err != nil {
			return err
		}
	}
	return nil
}
