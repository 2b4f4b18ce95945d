// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/containerd/mount"
	"golang.org/x/sys/unix"
)

// bound returns what makes a rootfs of a directory that holds one file, and the
// file, which stands for a container's data.
func bound(t *testing.T) ([]mount.Mount, string) {
	t.Helper()
	layer := t.TempDir()
	file := filepath.Join(layer, "data")
	if err := firstError(os.Mkdir(filepath.Join(layer, "below"), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return []mount.Mount{{Type: "bind", Source: layer, Options: []string{"bind"}}}, file
}

// bundleIn makes a bundle with a rootfs at path. What is left mounted in it at
// the end fails the test and is unmounted.
func bundleIn(t *testing.T, path string) string {
	t.Helper()
	rootfs := filepath.Join(path, "rootfs")
	if err := os.MkdirAll(rootfs, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range mountedAt(t, rootfs) {
			t.Errorf("left mounted: %s", p)
			_ = unix.Unmount(p, unix.MNT_DETACH) // the error above stands for it
		}
	})
	return path
}

func mountedAt(t *testing.T, path string) []string {
	t.Helper()
	points, err := mountsUnder(path)
	if err != nil {
		t.Fatal(err)
	}
	return points
}

func mountTmpfs(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
}

// F1, data loss: what the daemon removes after Delete must not be the
// container's files, whatever its path looks like to the shim.
func TestRootfsIsUnmountedByItsRealPath(t *testing.T) {
	for name, bundle := range map[string]func(dir string) string{
		"plain":          func(dir string) string { return bundleIn(t, filepath.Join(dir, "b")) },
		"a space":        func(dir string) string { return bundleIn(t, filepath.Join(dir, "a b\t\\c\nd#e")) },
		"bundle is link": func(dir string) string { return link(t, dir, bundleIn(t, filepath.Join(dir, "b"))) },
		"parent is link": func(dir string) string {
			bundleIn(t, filepath.Join(dir, "state", "b"))
			return filepath.Join(link(t, dir, filepath.Join(dir, "state")), "b")
		},
		"rootfs is link": func(dir string) string {
			real := bundleIn(t, filepath.Join(dir, "real"))
			if err := os.Symlink(filepath.Join(real, "rootfs"), filepath.Join(dir, "rootfs")); err != nil {
				t.Fatal(err)
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := bundle(t.TempDir())
			mounts, file := bound(t)
			r := newRootfs(b, mounts)
			if err := r.mount(); err != nil {
				t.Fatal(err)
			}
			mountTmpfs(t, filepath.Join(b, "rootfs", "below"))
			if err := firstError(r.unmount(), r.unmount()); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(b); err != nil {
				t.Errorf("what the daemon does next: %v", err)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("the container's data: %v", err)
			}
		})
	}
}

// link returns a symbolic link to path.
func link(t *testing.T, dir, path string) string {
	t.Helper()
	l := filepath.Join(dir, "link")
	if err := os.Symlink(path, l); err != nil {
		t.Fatal(err)
	}
	return l
}

// F1: a link that was changed meanwhile does not hide what was mounted.
func TestRootfsIsResolvedWhenItIsMounted(t *testing.T) {
	dir := t.TempDir()
	b := link(t, dir, bundleIn(t, filepath.Join(dir, "b")))
	mounts, _ := bound(t)
	r := newRootfs(b, mounts)
	if err := firstError(r.mount(), os.Remove(b), os.Symlink(t.TempDir(), b), r.unmount()); err != nil {
		t.Error(err)
	}
}

// F1: mounts on top of each other, and below one that hides them.
func TestRootfsUnmountsStacks(t *testing.T) {
	b := bundleIn(t, t.TempDir())
	mounts, _ := bound(t)
	r := newRootfs(b, append(mounts, mounts...))
	if err := r.mount(); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, filepath.Join(r.path, "below"))
	mountTmpfs(t, filepath.Join(r.path, "below"))
	mountTmpfs(t, r.path) // has no "below"
	if got, want := len(mountedAt(t, r.path)), 5; got != want {
		t.Fatalf("got %d mounts, want %d", got, want)
	}
	if err := r.unmount(); err != nil {
		t.Error(err)
	}
}

// F1: a file system that somebody uses is waited for, and then told of: with it
// mounted Delete must not succeed.
func TestRootfsIsBusy(t *testing.T) {
	b := bundleIn(t, t.TempDir())
	mounts, file := bound(t)
	r := newRootfs(b, mounts)
	if err := r.mount(); err != nil {
		t.Fatal(err)
	}
	user, err := os.Open(filepath.Join(r.path, filepath.Base(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if err := r.unmount(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("in use: got %v, want EBUSY", err)
	}
	freed := time.AfterFunc(3*busyTick, func() { _ = user.Close() }) // a file that was only read
	defer freed.Stop()
	if err := r.unmount(); err != nil {
		t.Errorf("let go meanwhile: %v", err)
	}
}

// F1: the daemon removes the bundle of a Create that failed without asking
// again, so a busy rootfs leaves it.
func TestFailedCreateTakesItsRootfsAway(t *testing.T) {
	f := &fakeRuntime{}
	mounts, file := bound(t)
	p := newTestInit(t, f, InitConfig{Rootfs: mounts})
	bundleIn(t, p.config.Bundle)
	var user *os.File
	f.after = map[string]func(context.Context) error{"create": func(context.Context) (err error) {
		user, err = os.Open(filepath.Join(p.rootfs.path, filepath.Base(file)))
		return errors.Join(err, errors.New("no"))
	}}
	if err := p.Create(t.Context()); err == nil {
		t.Error("succeeded")
	}
	defer user.Close()
	if got := mountedAt(t, p.rootfs.path); len(got) > 0 {
		t.Errorf("still mounted: %v", got)
	}
}

// TestFailedCreateWithoutMemory: a Create that failed for want of memory left its rootfs
// mounted, because the mounts could not be listed, either, and the daemon removed the
// container's files through it.
func TestFailedCreateWithoutMemory(t *testing.T) {
	for name, lacks := range map[string]int{"for a moment": 3, "for good": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			mounts, file := bound(t)
			r := newRootfs(bundleIn(t, t.TempDir()), mounts)
			r.under = func(dir string) ([]string, error) {
				if lacks--; lacks >= 0 {
					return nil, unix.ENOMEM
				}
				return mountsUnder(dir)
			}
			if err := r.mount(); err != nil {
				t.Fatal(err)
			}
			mountTmpfs(t, filepath.Join(r.path, "below"))
			if err := r.detach(); err != nil {
				t.Error(err)
			}
			if got := mountedAt(t, r.path); len(got) > 0 {
				t.Errorf("still mounted: %v", got)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("the container's data: %v", err)
			}
		})
	}
	mounts, _ := bound(t)
	r := newRootfs(bundleIn(t, t.TempDir()), append(mounts, mount.Mount{Type: "none"}))
	r.under = func(string) ([]string, error) { return nil, unix.ENOMEM }
	if err := r.mount(); err == nil {
		t.Error("a mount of no type succeeds")
	}
	if got := mountedAt(t, r.path); len(got) > 0 {
		t.Errorf("mounted half, and still: %v", got)
	}
}

// B49: what the shim has not mounted it does not unmount, for dockerd mounts by
// itself and sends none; and a bundle without a rootfs is none of its business.
// F1: but Delete does not succeed with it.
func TestRootfsOfOthers(t *testing.T) {
	r := newRootfs(t.TempDir(), nil)
	if err := firstError(r.mount(), r.unmount()); err != nil {
		t.Errorf("without a rootfs: %v", err)
	}
	if err := os.Mkdir(r.path, 0o700); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, r.path)
	defer func() { _ = unix.Unmount(r.path, 0) }() // fails only if it is gone, which is told below
	mark := filepath.Join(r.path, "mark")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.mount(); err != nil {
		t.Error(err)
	}
	for _, undo := range []func() error{r.unmount, r.detach} {
		if err := undo(); err == nil {
			t.Error("no word of what is mounted there")
		}
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("somebody else's mount: %v", err)
	}
}

// A mount's target lies inside the rootfs, whatever links the image has in its way.
func TestMountTargetThroughHostileLinks(t *testing.T) {
	for name, hostile := range map[string]func(outside string) string{
		"absolute": func(outside string) string { return outside },
		"upwards":  func(outside string) string { return "../../../../../../../../../.." + outside },
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			if err := os.Mkdir(filepath.Join(outside, "below"), 0o700); err != nil {
				t.Fatal(err)
			}
			b := bundleIn(t, t.TempDir())
			mounts, file := bound(t)
			layer := filepath.Dir(file)
			// What the link leads to exists inside as well: there the mount succeeds.
			if err := firstError(os.MkdirAll(filepath.Join(layer, outside, "below"), 0o700), os.Symlink(hostile(outside), filepath.Join(layer, "link"))); err != nil {
				t.Fatal(err)
			}
			for _, target := range []string{"link/below", "/link/below", "../../link/below", "below/../link/below"} {
				m := append(mounts[:1:1], mount.Mount{Type: "tmpfs", Source: "tmpfs", Target: target, Options: []string{"size=64k"}})
				r := newRootfs(b, m)
				if err := r.mount(); err != nil {
					t.Fatalf("%s: %v", target, err)
				}
				if got := mountedAt(t, outside); len(got) > 0 {
					t.Errorf("%s: mounted outside of the rootfs: %q", target, got)
				}
				if got := mountedAt(t, filepath.Join(b, "rootfs", outside, "below")); len(got) != 1 {
					t.Errorf("%s: not mounted inside: %q", target, got)
				}
				if err := r.unmount(); err != nil {
					t.Errorf("%s: %v", target, err)
				}
			}
		})
	}
}
