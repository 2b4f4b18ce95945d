// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// dialect is what differs between the releases of containerd.
type dialect struct {
	config  string   // a format of: root, state, socket, opt, shim, ttrpc socket, runtime
	imports []string // arguments of `ctr images import`, for an image named ImageName
	modern  bool     // 1.3 or later
}

// The CRI plugin is off because nothing here uses it. oom_score is 0 because a root
// without CAP_SYS_RESOURCE may not set a lower one.
const (
	// configV2 is for 1.3 and later. They give a State of a list two seconds and call the
	// task UNKNOWN then (services/tasks/local.go), which a slow machine with 400 clients
	// can need. Here they wait, so that the list is slow and is judged as such.
	configV2 = `version = 2
root = %[1]q
state = %[2]q
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %[3]q
[ttrpc]
  address = %[6]q
[debug]
  level = "debug"
[timeouts]
  "io.containerd.timeout.task.state" = "20s"
[plugins."io.containerd.internal.v1.opt"]
  path = %[4]q
[plugins."io.containerd.runtime.v1.linux"]
  shim = %[5]q
  runtime = %[7]q
`
	// configV1 is for the releases before, which serve no ttrpc.
	configV1 = `root = %[1]q
state = %[2]q
oom_score = 0
disabled_plugins = ["cri"]
[grpc]
  address = %[3]q
[debug]
  level = "debug"
[plugins.opt]
  path = %[4]q
[plugins.linux]
  shim = %[5]q
  runtime = %[7]q
# %[6]q
`
)

var release = regexp.MustCompile(` v?(\d+)\.(\d+)\.`)

// dialectOf asks a containerd for its version.
func dialectOf(ctx context.Context, containerd string) (dialect, error) {
	out, err := output(command(ctx, containerd, "--version"))
	if err != nil {
		return dialect{}, err
	}
	m := release.FindStringSubmatch(string(out))
	if m == nil {
		return dialect{}, fmt.Errorf("%s --version: %q", containerd, out)
	}
	name, _, _ := strings.Cut(ImageName, ":")
	minor, _ := strconv.Atoi(m[2]) // matched by the pattern
	switch {
	case m[1] != "1":
		return dialect{}, fmt.Errorf("containerd %s.%s has no v1 runtime", m[1], m[2])
	case minor < 2:
		return dialect{configV1, []string{"--oci-name", name}, false}, nil
	case minor < 3:
		return dialect{configV1, []string{"--base-name", name}, false}, nil
	case minor < 4:
		return dialect{configV2, []string{"--base-name", name}, true}, nil
	}
	return dialect{configV2, nil, true}, nil
}
