// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"containerd-shim.v1/integration/harness/guest"
	"containerd-shim.v1/integration/harness/sweep"
)

// Container describes a test container.
type Container struct {
	Args     []string // the init's steps; nil: sleep
	HostPid  bool     // shares the host's pid namespace
	PidPath  string   // joins the pid namespace at this path
	Terminal bool
	NoRootfs bool // the root file system is elsewhere, the bundle has no rootfs directory
	Edit     func(*specs.Spec)
}

// Init is the path of the helper in a container.
const Init = "/" + guest.InitName

// capabilities that the checks' containers need: to be killed by, and to kill,
// processes of root, and to open FIFOs of any owner.
var capabilities = []string{"CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"}

// makeBundle writes config.json and the rootfs, which holds the helper and
// nothing else.
func makeBundle(c *Case, bundle, name string, ct Container) (rootfs string, err error) {
	rootfs = filepath.Join(bundle, "rootfs")
	if ct.NoRootfs {
		rootfs = filepath.Join(c.Dir, "elsewhere-"+name)
	}
	for _, dir := range []string{bundle, rootfs, filepath.Join(rootfs, "proc"), filepath.Join(rootfs, "dev")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return "", err
		}
	}
	if err := os.Link(c.Helper, filepath.Join(rootfs, guest.InitName)); err != nil {
		return "", err
	}
	spec := ct.spec(rootfs, "/"+sweep.Cgroup(c.Dir)+"/"+name, c.Dir)
	if ct.Edit != nil {
		ct.Edit(spec)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	return rootfs, os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600)
}

func (ct Container) spec(rootfs, cgroup, mark string) *specs.Spec {
	namespaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}}
	switch {
	case ct.PidPath != "":
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: ct.PidPath})
	case !ct.HostPid:
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	return &specs.Spec{
		Version: "1.0.2",
		Process: process(ct.Args, ct.Terminal, mark),
		Root:    &specs.Root{Path: rootfs},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		},
		Linux: &specs.Linux{Namespaces: namespaces, CgroupsPath: cgroup},
	}
}

// process is the helper with steps, in the container's environment.
func process(steps []string, terminal bool, mark string) *specs.Process {
	if steps == nil {
		steps = []string{"sleep"}
	}
	return &specs.Process{
		Terminal: terminal,
		Args:     append([]string{Init}, steps...),
		Env:      []string{"PATH=/", sweep.Mark + "=" + mark},
		Cwd:      "/",
		Capabilities: &specs.LinuxCapabilities{
			Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
		},
	}
}
