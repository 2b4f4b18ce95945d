// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness/procfs"
)

// Runtime is the name under which containerd and dockerd know the v1 shim.
const Runtime = "io.containerd.runtime.v1.linux"

// Rig is a private containerd and, once StartDockerd was called, a private
// dockerd on top of it. Its methods are not for concurrent use, except those
// that only make a command (Ctr, Docker) or read (Shim, Leftovers).
type Rig struct {
	Dir  string // everything that the daemons write, immutable after New
	Name string // namespace of ctr's containers and parent cgroup of all, immutable after New
	Bin  string // the shim under test, immutable after StartContainerd

	// Daemon is the containerd that StartContainerd starts; its ctr is beside it.
	// Another may be set while none runs.
	Daemon string
	// Runtime is the OCI runtime's name or path, immutable after StartContainerd.
	Runtime string
	// Before is what a shell does in containerd's process before it executes containerd.
	Before string
	// DockerdArgs are more arguments of the dockerd that StartDockerd starts.
	DockerdArgs []string

	ttrpc      string // containerd's ttrpc socket if it is not where shims look for it
	ledger     string // where the recorder keeps accepted events, "" for not at all
	image      *Image
	placed     string  // the Daemon that the files in Dir are for
	dialect    dialect // of that daemon
	containerd *daemon // nil while not running
	dockerd    *daemon // nil while not running

	mu  sync.Mutex
	ids map[string]string // container id to containerd namespace, of every container seen
}

// New makes the directory of a Rig that will run the given shim. The caller must
// Close, even if starting the daemons fails.
func New(shim string) (*Rig, error) {
	bin, err := filepath.Abs(shim)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("shim under test: %w (make build)", err)
	} else if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("shim under test: %s is not an executable file", bin)
	}
	if err := checkHost(); err != nil {
		return nil, err
	}
	image, err := BuildImage()
	if err != nil {
		return nil, err
	}
	if err := abandoned(); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	me, ok := procfs.Read(os.Getpid())
	if !ok {
		return nil, errors.New("read /proc/self: is /proc mounted?")
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-%d-", rigPrefix, me.Pid, me.StartTime))
	if err != nil {
		return nil, err
	}
	r := &Rig{Dir: dir, Name: filepath.Base(dir), Bin: bin, Daemon: containerdBinary, Runtime: "runc", image: image, ids: map[string]string{}}
	for _, d := range []string{"bin", "tmp", "fifo", "docker"} {
		if err := os.Mkdir(r.path(d), 0o700); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return r, nil
}

// rigPrefix begins the name of a Rig's directory. Its owner's pid and start time follow.
const rigPrefix = "shimrig"

// abandoned removes Rigs whose owners were killed: their daemons, containers and mounts live on.
func abandoned() error {
	tmp, err := os.Open(os.TempDir())
	if err != nil {
		return err
	}
	defer tmp.Close() // and so unlocks: two that begin at once would remove the same things
	if err := unix.Flock(int(tmp.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", tmp.Name(), err)
	}
	dirs, err := filepath.Glob(filepath.Join(tmp.Name(), rigPrefix+"*-*-*"))
	errs := []error{err}
	for _, dir := range dirs {
		var pid int
		var start uint64
		if _, err := fmt.Sscanf(filepath.Base(dir), rigPrefix+"%d-%d-", &pid, &start); err != nil {
			continue // somebody else's
		}
		if info, err := os.Lstat(dir); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
			continue // anybody can make a directory of this name
		}
		if p, ok := procfs.Read(pid); ok && p.StartTime == start && !p.Dead() {
			continue
		}
		r := &Rig{Dir: dir, Name: filepath.Base(dir), ids: map[string]string{}}
		bundles, _ := filepath.Glob(r.path("state", Runtime, "*", "*")) // the pattern is right
		for _, b := range bundles {
			r.Note(filepath.Base(filepath.Dir(b)), filepath.Base(b)) // for the sockets
		}
		errs = append(errs, r.purge())
	}
	return errors.Join(errs...)
}

// checkHost returns an error that names what this machine lacks, so that nobody has to
// guess it from a daemon's log.
func checkHost() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("must run as root"))
	}
	for tool, pkg := range map[string]string{
		containerdBinary: "containerd", ctrBinary: "containerd", "/usr/sbin/runc": "runc", "/bin/busybox": "busybox-static",
	} {
		if _, err := os.Stat(tool); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing: apt-get install %s", tool, pkg))
		}
	}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "memory", "tasks")); err != nil {
		errs = append(errs, errors.New("cgroup v1 is not mounted, and containerd's v1 runtime cannot run on cgroup v2: boot with systemd.unified_cgroup_hierarchy=0"))
	}
	return errors.Join(errs...)
}

func (r *Rig) path(elem ...string) string {
	return filepath.Join(append([]string{r.Dir}, elem...)...)
}

// Address returns the path of the gRPC socket of the Rig's containerd.
func (r *Rig) Address() string { return r.path("containerd.sock") }

// Note records a container for the census: its namespace and id are in the names of
// the runc state and the shim's socket that must be gone in the end.
func (r *Rig) Note(namespace, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[id] = namespace
}

// known returns a copy of what Note recorded.
func (r *Rig) known() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make(map[string]string, len(r.ids))
	for id, ns := range r.ids {
		ids[id] = ns
	}
	return ids
}

// KillAll ends both daemons by SIGKILL, as a crash or the OOM killer would.
func (r *Rig) KillAll() error {
	return errors.Join(r.StopDockerd(syscall.SIGKILL), r.StopContainerd(syscall.SIGKILL))
}

// Close removes every container, stops the daemons, takes the census, and removes by
// force what the census has found. Its error names every leftover.
func (r *Rig) Close() error {
	var errs []error
	errs = append(errs, r.removeContainers(), r.StopDockerd(syscall.SIGTERM), r.StopContainerd(syscall.SIGTERM))
	left, err := r.settled()
	errs = append(errs, err)
	for _, l := range left {
		errs = append(errs, fmt.Errorf("left behind: %s", l))
	}
	errs = append(errs, r.purge())
	return errors.Join(errs...)
}

// removeContainers removes the containers that still exist.
func (r *Rig) removeContainers() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeLimit)
	defer cancel()
	var errs []error
	if r.dockerd != nil && r.dockerd.ended() == nil {
		ids, err := output(r.Docker(ctx, "ps", "-aq", "--no-trunc"))
		errs = append(errs, err)
		for _, id := range bytes.Fields(ids) {
			r.Note(dockerNamespace, string(id))
			_, err := output(r.Docker(ctx, "rm", "-f", string(id)))
			errs = append(errs, err)
		}
	}
	if r.containerd != nil && r.containerd.ended() == nil {
		ids, err := output(r.Ctr(ctx, "containers", "ls", "-q"))
		errs = append(errs, err)
		for _, id := range bytes.Fields(ids) {
			errs = append(errs, r.Remove(ctx, string(id)))
		}
	}
	return errors.Join(errs...)
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// output runs cmd and returns its standard output; an error has what cmd wrote to
// standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%v: %w: %s", cmd.Args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
