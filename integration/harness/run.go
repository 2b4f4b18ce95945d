// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/launch"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
)

// Setup checks that the host has what the harness needs, removes what dead
// harnesses left, and makes the run's own directory. Each missing thing is an
// error that says how to get it.
func Setup(shim, runtime, helper string) (Config, error) {
	if os.Geteuid() != 0 {
		return Config{}, errors.New("must be run as root: containers, mounts and cgroups are made")
	}
	cfg, err := Config{halt: &halt{c: make(chan struct{})}}.WithShim(shim)
	if err != nil {
		return Config{}, err
	}
	oci, err := exec.LookPath(runtime)
	if err != nil {
		return Config{}, fmt.Errorf("no OCI runtime (apt-get install runc): %w", err)
	}
	if oci, err = filepath.Abs(oci); err != nil {
		return Config{}, err
	}
	keepOwnFds()
	dir, err := sweep.Begin()
	if err != nil {
		return Config{}, err
	}
	// One copy beside the cases, so that a rootfs is made with a hard link.
	own := filepath.Join(dir, "helper")
	program, err := os.ReadFile(helper)
	if err == nil {
		err = os.WriteFile(own, program, 0o755)
	}
	if err != nil {
		return Config{}, fmt.Errorf("copy helper: %w", err)
	}
	cfg.Runtime, cfg.Helper, cfg.RunDir = oci, own, dir
	return cfg, nil
}

// find is the absolute path of a shim.
func find(shim string) (string, error) {
	path, err := exec.LookPath(shim)
	if err != nil {
		return "", fmt.Errorf("no shim to test (set SHIM, or build bin/containerd-shim with `make build`): %w", err)
	}
	return filepath.Abs(path)
}

// WithShim is the configuration for another shim.
func (cfg Config) WithShim(shim string) (Config, error) {
	path, err := find(shim)
	cfg.Shim, cfg.V2, cfg.bootstrap = path, false, false
	if err == nil && launch.IsV2(path) {
		return cfg.AsV2()
	}
	return cfg, err
}

// AsV2 is the configuration for a v2 shim, whatever its name.
func (cfg Config) AsV2() (Config, error) {
	var err error
	cfg.V2 = true
	cfg.bootstrap, err = launch.Bootstraps(cfg.Shim)
	return cfg, err
}

// probeTime is how long the runtime may take to run a container on a busy host.
const probeTime = 30 * time.Second

// Probe runs one container with the runtime alone. A runtime that cannot do
// that on this host would make every shim fail.
func (cfg Config) Probe() error {
	r := Run(cfg, "probe", probeTime, func(c *Case) {
		bundle, root := filepath.Join(c.Dir, "b"), filepath.Join(c.Dir, "r")
		_, err := makeBundle(c, bundle, "probe", Container{Args: []string{"exit:0"}})
		c.Need(err, "make bundle")
		cmd := exec.Command(c.Runtime, "--root", root, "run", "--bundle", bundle, "probe")
		cmd.Env = append(os.Environ(), sweep.Mark+"="+c.Dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		c.Need(err, c.Runtime+" cannot run a container on this host")
	})
	if r.Verdict != Pass {
		return errors.New(strings.Join(r.Messages, "; "))
	}
	return nil
}

// ProbeShim starts the shim once and asks it for its pid, which every shim answers
// before it has a container. Checks of anything else would be worthless:
// another program fails them all, or passes one by doing nothing.
func (cfg Config) ProbeShim() error {
	r := Run(cfg, "probe-shim", probeTime, func(c *Case) {
		b := c.Fixture(Options{})
		info, err := b.ShimInfo()
		c.Must(err, "ShimInfo")
		if int(info.GetShimPid()) != b.Shim.Pid {
			c.Errorf("ShimInfo: pid %d, want %d", info.GetShimPid(), b.Shim.Pid)
		}
	})
	if r.Verdict != Pass {
		return fmt.Errorf("%s is not a %s shim that can be tested: %s", cfg.Shim, cfg.kind(), strings.Join(r.Messages, "; "))
	}
	return nil
}

func (cfg Config) kind() string {
	if cfg.V2 {
		return "v2"
	}
	return "v1"
}

// Close removes the run's directory and whatever still belongs to it.
func (cfg Config) Close() error { return sweep.Clean(cfg.RunDir) }

// keepOwnFds keeps descriptors that the harness was started with, of a test
// runner or a shell, from its children: the shim would hand them on, and a
// check looks for just that.
func keepOwnFds() {
	for _, fd := range procfs.Own() {
		if fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
