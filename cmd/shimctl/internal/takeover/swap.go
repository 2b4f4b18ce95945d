// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/atomicfile"
)

// stateName is the file in the bundle through which a shim is handed over. This project's
// shim uses the same name.
const stateName = ".shim.state.json"

// Limits of a swap.
const (
	checkLimit  = 20 * time.Second // for the new program to check the state
	answerLimit = 10 * time.Second // for the new program to answer, once it runs
	askLimit    = 2 * time.Second  // for one answer
	askEvery    = 20 * time.Millisecond
)

// ErrNotAnswering is wrapped by the error if the program was exchanged but the new one
// does not answer.
var ErrNotAnswering = errors.New("the program was exchanged, and the new one does not answer")

// Refuse returns the reason for which the shim cannot be taken over, whatever it is doing
// at the moment, or "" if there is none.
func Refuse(s *scan.Shim) string {
	switch {
	case runtime.GOARCH != "amd64":
		return "programs of " + runtime.GOARCH + " cannot be exchanged yet"
	case s.Kind != scan.V1:
		return "it is no v1 shim"
	case s.Foreign:
		return scan.WhyForeign
	case s.Build.Ours:
		return "it is this project's own, which exchanges its program by itself"
	case s.Tracer != 0:
		return fmt.Sprintf("process %d traces it; end that first", s.Tracer)
	case s.State == "T":
		return "it is stopped; send SIGCONT first"
	}
	if cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(s.PID), "cwd")); err == nil && strings.HasSuffix(cwd, " (deleted)") {
		return "its bundle is gone, and with it the daemon's knowledge of the container"
	}
	if _, frozen := scan.Sleep("/proc", s.PID); frozen {
		return "its cgroup is frozen; thaw it first"
	}
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(b)) == "3" {
		return "kernel.yama.ptrace_scope is 3: nobody may trace until the next boot"
	}
	return ""
}

// CheckBinary returns an error unless path, as the shim sees it, is a program that may
// take over: this project's shim, for this architecture, that only root can write or
// replace, and with the SHA-256 sum, in hex; an empty sum stands for any.
func CheckBinary(s *scan.Shim, path, sum string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	name, err := onHost(s, path)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	if !owned(info) || info.Mode()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than root", path)
	}
	root := "" // this process's own
	if name != path {
		root = hostRoot
	}
	if err := checkPath(root, path); err != nil {
		return err
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
	if f.Machine != map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH] {
		return fmt.Errorf("%s is for another architecture, %v", path, f.Machine)
	}
	return checkSum(path, name, sum)
}

// checkSum compares the file name, which the shim calls path, with a checksum.
func checkSum(path, name, sum string) error {
	if sum == "" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, sum) {
		return fmt.Errorf("%s has the SHA-256 %s, not %s", path, got, sum)
	}
	return nil
}

// seen returns the path by which this process reaches a path of the shim's.
func seen(s *scan.Shim, path string) string {
	return filepath.Join("/proc", strconv.Itoa(s.PID), "root", path)
}

// onHost returns the path by which this process finds the program that the shim calls
// path: below its own root, or, in a pod, below the host's. It is an error if the file
// there is not the one that the shim sees: anybody can start a process that looks like a
// shim, even in a container, and the file that such a process has by this name would be
// run as the host's root.
func onHost(s *scan.Shim, path string) (string, error) {
	its, err := os.Stat(seen(s, path))
	if err != nil {
		return "", err
	}
	for _, name := range []string{path, hostRoot + path} {
		if info, err := os.Stat(name); err == nil && os.SameFile(info, its) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s is not the same file for the shim and on the host", path)
}

// Look reports what a swap would do: it does all that Swap does before the exchange, but for
// holding calls. It stops the shim for some milliseconds and changes nothing.
func (t Tracer) Look(ctx context.Context, s *scan.Shim, binary string, wedged bool, patience time.Duration) (*Outcome, error) {
	file, lock, err := lock(s)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer forget(s, file)
	return t.look(ctx, s, binary, Request{Wedged: wedged, Dry: true, StateFile: file}, patience)
}

// look reads the shim, and asks the new program whether it can read the state.
func (t Tracer) look(ctx context.Context, s *scan.Shim, binary string, req Request, patience time.Duration) (*Outcome, error) {
	outcome, err := t.Run(ctx, s, req, patience)
	if err == nil {
		err = outcome.Err()
	}
	if err == nil {
		err = check(ctx, s, binary, req.StateFile)
	}
	return outcome, err
}

// ErrLocked is returned if somebody else is exchanging the shim's program.
var ErrLocked = errors.New("somebody else is exchanging its program")

// ErrExchanged is returned if the shim runs another program than when it was found.
var ErrExchanged = errors.New("its program was exchanged meanwhile")

// Others reports whether an error says that the exchange is, or was, somebody else's.
func Others(err error) bool { return errors.Is(err, ErrLocked) || errors.Is(err, ErrExchanged) }

// lock returns the path, as the shim sees it, of the file for its state, and locks the bundle in
// which that is until the file returned is closed. Two who exchange one shim's program, with
// evidence in different directories, would remove each other's state. The error is ErrLocked if
// somebody else has it, and ErrExchanged if somebody has had it.
func lock(s *scan.Shim) (file string, locked *os.File, err error) {
	bundle, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(s.PID), "cwd"))
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(seen(s, bundle))
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return "", nil, ErrLocked
		}
		return "", nil, fmt.Errorf("lock %s: %w", bundle, err)
	}
	if now, ok := scan.One("/proc", s.PID, s.StartTicks); !ok || now.Exe != s.Exe || now.Build != s.Build {
		_ = f.Close()
		return "", nil, ErrExchanged // the new program may not have read its state yet
	}
	file = filepath.Join(bundle, stateName)
	forget(s, file)
	return file, f, nil
}

// forget removes the state, and what one who was killed while writing it has left: both have
// the environments of execs. It is for those who hold the lock, while the old program runs.
func forget(s *scan.Shim, file string) {
	path := seen(s, file)
	_ = os.Remove(path)                          // it is hardly ever there
	entries, _ := os.ReadDir(filepath.Dir(path)) // if that fails, so does what follows
	for _, e := range entries {
		if final, ok := atomicfile.Unfinished(e.Name()); ok && final == stateName {
			_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
}

// Swap exchanges the program for binary, an absolute path, once the new program has shown
// that it can read the state, and waits until it answers. If Swap returns an error and no
// Outcome, or one whose Swapped is false, the old program goes on, unless the error wraps
// ErrTracer: then either may run, see Runs. sum is binary's SHA-256; see CheckBinary. It is
// an ErrNotAnswering if another file was executed after all.
func (t Tracer) Swap(ctx context.Context, s *scan.Shim, binary, sum string, wedged bool, patience time.Duration) (*Outcome, error) {
	if why := Refuse(s); why != "" {
		return nil, errors.New(why)
	}
	if err := CheckBinary(s, binary, sum); err != nil {
		return nil, err
	}
	file, lock, err := lock(s)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	// The new program removes the file once it has read it. Unless it is certain that the
	// old program goes on, nobody else may: without the state the new one knows no
	// container.
	old := true
	defer func() {
		if old {
			forget(s, file)
		}
	}()
	req := Request{Wedged: wedged, StateFile: file}
	look, err := t.look(ctx, s, binary, req, patience)
	if err != nil {
		return look, err
	}
	req.Binary, req.Drain = binary, look.Drained
	old = false
	// The exchange is not cut short if the caller gives up.
	outcome, err := t.Run(context.WithoutCancel(ctx), s, req, patience)
	if err == nil {
		old = !outcome.Swapped
		err = outcome.Err()
	}
	if errors.Is(err, ErrTracer) { // the exchange may have been made
		err = fmt.Errorf("%w; it runs the %s program", err, map[bool]string{true: "new", false: "old"}[Runs(s, binary)])
	}
	if err != nil {
		return outcome, err
	}
	if err := outcome.settle(context.WithoutCancel(ctx), s, binary); err != nil {
		return outcome, err
	}
	return outcome, CheckRunning(s, binary, sum)
}

// CheckRunning returns an ErrNotAnswering unless the program that the shim runs has the
// SHA-256 sum, in hex; an empty sum stands for any. Whoever replaces the file at binary
// between CheckBinary and the exchange is found so.
func CheckRunning(s *scan.Shim, binary, sum string) error {
	if err := checkSum(binary, filepath.Join("/proc", strconv.Itoa(s.PID), "exe"), sum); err != nil {
		return fmt.Errorf("%w as it should: %w", ErrNotAnswering, err)
	}
	return nil
}

// CheckSum returns an error unless sum is empty or looks like a SHA-256 in hex.
func CheckSum(sum string) error {
	if b, err := hex.DecodeString(sum); err != nil || sum != "" && len(b) != sha256.Size {
		return fmt.Errorf("%q is no SHA-256: want %d hexadecimal digits", sum, 2*sha256.Size)
	}
	return nil
}

// adoptable is what the new program prints if it can read the state. The status 0 alone
// may be another program's.
const adoptable = "the state can be adopted"

// check runs the new program as a child, to see whether it can read the state. It is not
// given the shim's arguments, which may be of anybody's choice.
func check(ctx context.Context, s *scan.Shim, binary, file string) error {
	name, err := onHost(s, binary)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, "-adopt", seen(s, file), "-check").CombinedOutput()
	if err == nil && !strings.Contains(string(out), adoptable) {
		err = errors.New("it does not say so")
	}
	if err != nil {
		return fmt.Errorf("%s cannot read the state: %w: %s", binary, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Runs reports whether the process runs the binary.
func Runs(s *scan.Shim, binary string) bool {
	var a, b unix.Stat_t
	err := errors.Join(unix.Stat(filepath.Join("/proc", strconv.Itoa(s.PID), "exe"), &a), unix.Stat(seen(s, binary), &b))
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// settle waits until the new program answers.
func (o *Outcome) settle(ctx context.Context, s *scan.Shim, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	begun := time.Now()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		a := probe.Ask(ctx, "/proc", s, probe.Question{Limit: askLimit, State: true})
		if a.Serves() && Runs(s, binary) { // only one that has a container is exchanged
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: ShimInfo: %s, State: %s%s", ErrNotAnswering, a.ShimInfo.Err, a.State.Err, a.State.Status)
		case <-tick.C:
		}
	}
	o.Answered = time.Since(begun)
	return nil
}
