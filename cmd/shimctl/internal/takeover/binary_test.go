// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// What a shim is to execute as root must be root's, and the same file for it as on the
// host.
func TestCheckBinary(t *testing.T) {
	dir := t.TempDir()
	program, err := os.ReadFile(shimtest.Own(t))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, program, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, 0); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// in makes a directory with the program in it.
	in := func(name string, mode os.FileMode, uid int) string {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Join(at, "below"), 0o755), os.Chmod(at, mode), os.Chown(at, uid, 0)); err != nil {
			t.Fatal(err)
		}
		return write(filepath.Join(name, "below", "program"), 0o755, 0)
	}
	link := func(target, name string, uid int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Symlink(target, path), os.Lchown(path, uid, 0)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, other := write("good", 0o755, 0), write("other", 0o755, 0)
	host := &scan.Shim{PID: os.Getpid()}

	// One that sees another file by the same name.
	hidden := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" "$1" && echo ready && exec sleep 100000`, other, good)
	out, err := hidden.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hidden.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hidden.Wait() }() // killed
	defer func() { _ = hidden.Process.Kill() }()
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		shim *scan.Shim
		path string
		want string
	}{
		{host, good, ""},
		{host, write("writable", 0o777, 0), "can be written by others"},
		{host, write("of a user", 0o755, 65534), "can be written by others"},
		{host, write("no program", 0o600, 0), "not an executable"},
		{host, in("sticky", 0o777|os.ModeSticky, 0), ""},
		{host, in("open", 0o777, 0), "open can be written by others than root, who could replace"},
		{host, in("group's", 0o775, 0), "group's can be written by others"},
		{host, in("user's", 0o755, 65534), "user's can be written by others"},
		{host, link("good", "link", 0), ""},
		{host, link(good, "absolute link", 0), ""},
		{host, link("../"+filepath.Base(dir)+"/open/below/program", "link to open", 0), "open can be written by others"},
		{host, filepath.Join(link("sticky/below", "link to directory", 0), "program"), ""},
		{host, filepath.Join(link("open/below", "link through open", 0), "program"), "open can be written by others"},
		{host, link(good, "sticky/user's link", 65534), "is a symbolic link of another user"},
		{&scan.Shim{PID: hidden.Process.Pid}, good, "not the same file"},
	} {
		err := CheckBinary(c.shim, c.path, "")
		// Where fs.protected_symlinks is set, as it is by Debian, the kernel does not follow a user's link
		// in a sticky directory at all (proc_sys_fs(5)).
		if strings.HasSuffix(c.path, "user's link") && errors.Is(err, os.ErrPermission) {
			continue
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %d: %v, want %q", c.path, c.shim.PID, err, c.want)
		}
	}
}
