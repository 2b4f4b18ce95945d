// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/types"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

var mountChecks = []Check{
	linkedRootfs("F01", "Delete", true),
	linkedRootfs("F01b", "a Create that fails", false),
}

func linkedRootfs(id, end string, succeeds bool) Check {
	return Check{ID: id, Name: "rootfs below a symbolic link, " + end,
		Incident: "state = \"/var/run/...\": the bundle is removed through the mount, and the container's files with it",
		Asserts:  "when " + end + " answers, nothing is mounted in the bundle",
		Run:      with(linkedBundle, succeeds)}
}

// linkedBundle gives the shim a path to its bundle that leads through a symbolic link,
// which mountinfo does not show.
func linkedBundle(c *harness.Case, succeeds bool) {
	o := harness.Options{Fake: []fakeruntime.Rule{}}
	if !succeeds {
		o.Fake = []fakeruntime.Rule{on("create", exits(1, "no"))}
	}
	b := c.Fixture(o)
	link := b.Path("link")
	c.Need(os.Symlink(filepath.Dir(b.Bundle), link), "make link")
	layer := b.Path("layer")
	c.Need(os.Rename(b.Rootfs, layer), "move the rootfs aside")
	c.Need(os.Mkdir(b.Rootfs, 0o711), "make directory")
	r := b.CreateRequest(harness.IO{})
	r.Bundle = filepath.Join(link, filepath.Base(b.Bundle))
	r.Rootfs = []*types.Mount{{Type: "bind", Source: layer, Options: []string{"rbind", "rw"}}}
	_, err := b.CreateTask(r)
	if succeeds {
		c.Must(err, "Create")
		b.MustStart(b.ID)
		b.Die()
		c.Must(del(b, ""), "Delete")
	} else {
		if err == nil {
			c.Errorf("Create succeeded though runc create failed")
		}
		_, err = b.ShimInfo() // it was the shim that refused
		c.Must(err, "ShimInfo")
	}
	if left := procfs.MountsUnder(b.Rootfs); len(left) > 0 {
		c.Errorf("still mounted: %v", left)
	}
}
