// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	dockerdBinary = "/usr/sbin/dockerd"
	dockerBinary  = "/usr/bin/docker"
	// dockerNamespace is dockerd's default containerd namespace.
	dockerNamespace = "moby"
)

// StartDockerd starts a dockerd on the Rig's containerd, with live restore and
// the v1 shim as the default runtime, and imports the image if it has none yet.
// dockerd 20.10 knows the v1 runtime by the name io.containerd.runtime.v1.linux
// without any --add-runtime. No network device and no netfilter rule is made.
func (r *Rig) StartDockerd(ctx context.Context) error {
	if size(r.path("docker", "daemon.json")) == 0 {
		if err := os.WriteFile(r.path("docker", "daemon.json"), []byte("{}\n"), 0o600); err != nil {
			return err
		}
	}
	// The default exec root is /var/run/docker, and /var/run is a link: shims get paths over it.
	if err := os.Symlink("exec", r.path("docker", "link")); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.MkdirAll(r.path("docker", "exec"), 0o700); err != nil {
		return err
	}
	cmd := exec.Command(dockerdBinary, append([]string{
		"--config-file", r.path("docker", "daemon.json"),
		"--containerd", r.Address(),
		"--host", "unix://" + r.path("docker", "docker.sock"),
		"--data-root", r.path("docker", "root"),
		"--exec-root", r.path("docker", "link"),
		"--pidfile", r.path("docker", "pid"),
		"--cgroup-parent", "/" + r.Name + "/docker",
		"--default-runtime", Runtime,
		"--storage-driver", "overlay2",
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
		"--live-restore",
	}, r.DockerdArgs...)...)
	cmd.Dir = r.Dir
	cmd.Env = append(withoutEnv(os.Environ(), "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "DOCKER_HOST"), "TMPDIR="+r.path("tmp"))
	d, err := startDaemon(cmd, r.path("dockerd.log"))
	if err != nil {
		return err
	}
	r.dockerd = d
	if err := d.answers(func() *exec.Cmd { return r.Docker(ctx, "version") }); err != nil {
		return err
	}
	// A dockerd that maps users has images of its own.
	if images, err := output(r.Docker(ctx, "images", "--quiet", ImageName)); err != nil || len(images) > 0 {
		return err
	}
	return importTo(r.Docker(ctx, "import", "-", ImageName), r.image.Rootfs)
}

// StopDockerd ends dockerd by sig and waits for its end; live restore keeps its
// containers running.
func (r *Rig) StopDockerd(sig syscall.Signal) error {
	if r.dockerd == nil {
		return nil
	}
	err := r.dockerd.stop(sig)
	r.dockerd = nil
	return err
}

// Docker returns a docker command for the Rig's dockerd. It is killed when ctx ends.
func (r *Rig) Docker(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, dockerBinary, append([]string{"--host", "unix://" + r.path("docker", "docker.sock"),
		"--config", r.path("docker")}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// DockerRun starts a detached container and returns its id, which may be set even if
// there is an error. options are options of `docker run`.
func (r *Rig) DockerRun(ctx context.Context, options []string, argv ...string) (string, error) {
	args := append([]string{"run", "--detach", "--network", "none"}, options...)
	out, err := output(r.Docker(ctx, append(append(args, ImageName), argv...)...))
	id := strings.TrimSpace(string(out))
	if id != "" {
		r.Note(dockerNamespace, id)
	}
	return id, err
}
