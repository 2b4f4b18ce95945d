// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"containerd-shim.v1/integration/harness/launch/starter"
	"containerd-shim.v1/integration/harness/sweep"
)

// v2Name is how containerd makes a v2 shim's file name of its runtime's: that of
// io.containerd.runc.v2 is containerd-shim-runc-v2 (BinaryName in its runtime/v2/shim).
var v2Name = regexp.MustCompile(`^containerd-shim-.+-v\d+$`)

// IsV2 reports whether the shim at path is a v2 shim, by its name.
func IsV2(path string) bool { return v2Name.MatchString(filepath.Base(path)) }

// Bootstraps reports whether the v2 shim at path has to be told on stdin how it is
// started, which daemons since 2.3 do. Earlier shims may take that for wrong options of
// the runtime, and not start. It asks the shim for its version, which all of upstream's print.
func Bootstraps(path string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-v").Output()
	if err != nil {
		return false, fmt.Errorf("%s -v: %w", path, err)
	}
	var major, minor int
	_, version, _ := strings.Cut(string(out), "Version:")
	if _, err := fmt.Sscanf(strings.TrimPrefix(strings.TrimSpace(version), "v"), "%d.%d", &major, &minor); err != nil {
		return false, fmt.Errorf("%s -v: no version in %q", path, out)
	}
	return major > 2 || major == 2 && minor >= 3, nil
}

// v2Limit bounds a verb of a v2 shim. Daemons give up sooner.
const v2Limit = 30 * time.Second

// StartV2 starts the v2 shim at path as containerd does. Kill ends it; if both shim and
// error are returned, the shim runs. If another one has the container's group, it is that
// one's Address which is returned, without a Pid.
func StartV2(path string, s Options) (*Shim, error) {
	shim := &Shim{stackDir: s.StackDir, workDir: s.Workdir}
	log := filepath.Join(s.Bundle, "log")
	if err := shim.openLogs([]string{log}, s.Undrained); err != nil {
		shim.LeaveLogs()
		return nil, err
	}
	cmd := exec.Command(s.Helper, s.v2Command(path, "start")...)
	cmd.Args = append([]string{starter.Name}, cmd.Args[1:]...)
	cmd.Dir, cmd.Env = s.Bundle, s.v2Env()
	if s.Bootstrap {
		cmd.Stdin = bytes.NewReader(s.bootstrap())
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = shim
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = startWithUmask(cmd, s)
	}
	if err != nil {
		shim.LeaveLogs()
		return nil, fmt.Errorf("start shim: %w", err)
	}
	var started starter.Started
	hangs := time.AfterFunc(v2Limit, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // it is reaped below
	err = json.NewDecoder(said).Decode(&started)
	if !hangs.Stop() {
		err = fmt.Errorf("`start` has not ended within %v", v2Limit)
	}
	shim.supervise(cmd)
	switch {
	case err != nil:
		err = fmt.Errorf("start shim: %w", err)
	case started.Error != "":
		err = fmt.Errorf("start shim: %s", started.Error)
	}
	if started.Pid != 0 {
		var finding error
		shim.Pid = started.Pid
		shim.process, finding = os.FindProcess(started.Pid)
		err = errors.Join(err, finding)
	}
	if err != nil {
		shim.Kill()
		return nil, err
	}
	return shim, shim.bootstrapped(started.Output, s)
}

// v2Command is a command line of the shim for one of its verbs.
func (s Options) v2Command(path, verb string, flags ...string) []string {
	args := append([]string{path, "-namespace", s.Namespace, "-address", s.GRPC, "-publish-binary", s.Publisher, "-id", s.ID}, flags...)
	if s.Debug {
		args = append(args, "-debug")
	}
	return append(append(args, s.Flags...), verb)
}

func (s Options) v2Env() []string {
	env := append(os.Environ(), sweep.Mark+"="+s.Dir, "TMPDIR="+s.Dir, "XDG_RUNTIME_DIR=", "CONTAINERD_SHIM_STACK_DIR="+s.StackDir,
		"GOMAXPROCS=2", "MAX_SHIM_VERSION=2", "TTRPC_ADDRESS="+s.GRPC+".ttrpc", "GRPC_ADDRESS="+s.GRPC, "NAMESPACE="+s.Namespace)
	return append(env, s.Env...)
}

// bootstrap is the message containerd.runtime.bootstrap.v1.BootstrapParams.
func (s Options) bootstrap() []byte {
	const debug = -4
	var b []byte
	text := func(field protowire.Number, value string) {
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), value)
	}
	text(1, s.ID)
	text(2, s.Namespace)
	if s.Debug {
		level := int64(debug)
		b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), uint64(level))
	}
	text(4, "2.4.0") // the daemon's version
	text(5, s.GRPC+".ttrpc")
	text(6, s.GRPC)
	text(7, s.Publisher)
	return b
}

// bootstrapped reads what `start` has said: a message BootstrapResult since 2.3, JSON since
// 2.0, and before just the address. It leaves in the bundle what a daemon leaves there.
func (s *Shim) bootstrapped(said []byte, o Options) error {
	address := ""
	s.Version, address = parseBootstrap(said)
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return fmt.Errorf("start shim: %q is no address of a socket file", address)
	}
	s.Address = path
	params, err := json.Marshal(map[string]any{"version": s.Version, "address": address, "protocol": "ttrpc"})
	if err == nil {
		err = os.WriteFile(filepath.Join(o.Bundle, "bootstrap.json"), params, 0o600)
	}
	if s.Pid != 0 {
		err = errors.Join(err, sweep.Also(o.Dir, path))
	}
	return err
}

func parseBootstrap(said []byte) (version int, address string) {
	var result struct {
		Version int
		Address string
	}
	said = bytes.TrimSpace(said)
	if json.Unmarshal(said, &result) == nil {
		return result.Version, result.Address
	}
	if len(said) == 0 || said[0] != byte(protowire.EncodeTag(1, protowire.VarintType)) {
		return 2, string(said)
	}
	for len(said) > 0 {
		field, kind, n := protowire.ConsumeTag(said)
		size := protowire.ConsumeFieldValue(field, kind, said[max(n, 0):])
		if n < 0 || size < 0 {
			return 0, ""
		}
		switch value := said[n : n+size]; field {
		case 1:
			v, _ := protowire.ConsumeVarint(value)
			result.Version = int(v)
		case 2:
			result.Address, _ = protowire.ConsumeString(value)
		}
		said = said[n+size:]
	}
	return result.Version, result.Address
}

// DeleteV2 runs the shim's `delete`, which cleans up after a shim that is gone, and returns
// what it says on stdout: an encoded DeleteResponse.
func DeleteV2(path string, s Options) ([]byte, error) {
	args := s.v2Command(path, "delete", "-bundle", s.Bundle)
	ctx, cancel := context.WithTimeout(context.Background(), v2Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = s.Bundle, s.v2Env()
	cmd.WaitDelay = time.Second // a child of its may hold the output open
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("`delete` has not ended within %v", v2Limit)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}
