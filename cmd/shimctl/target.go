// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// shims scans the host.
func shims() ([]scan.Shim, error) {
	all, err := scan.Shims(procRoot)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", procRoot, err)
	}
	if len(all) == 0 && blind() { // "there is none" would be a lie
		return nil, errBlind
	}
	return all, nil
}

// errBlind is returned when no shim is visible and nothing of the host is.
var errBlind = fmt.Errorf("no process of the host is visible in %s: %w", "/proc", os.ErrPermission)

// blind reports whether /proc is not the host's, or hides it: the kernel's
// thread daemon has pid 2 in the host's pid namespace and is in no other.
func blind() bool {
	p, ok := scan.Any(procRoot, 2)
	return !ok || p.Comm != "kthreadd"
}

// choose picks the shims that the arguments name: a pid, a container id, the
// beginning of one, or namespace/id. No argument means all.
func choose(all []scan.Shim, args []string) ([]scan.Shim, error) {
	if len(args) == 0 {
		return all, nil
	}
	var chosen []scan.Shim
	for _, a := range args {
		found, err := matching(all, a)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, found)
	}
	return chosen, nil
}

// mostPid is Linux's PID_MAX_LIMIT on 64 bits.
const mostPid = 1 << 22

// matching is the one shim that arg names. What can be a pid is never taken for
// the beginning of an id: the shim of a pid that has just ended would give its
// place to another, which then gets the signal.
func matching(all []scan.Shim, arg string) (scan.Shim, error) {
	pid, notPid := strconv.Atoi(arg)
	var exact, prefix []scan.Shim
	for _, s := range all {
		switch {
		case notPid == nil && s.PID == pid, s.ID == arg, s.Name() == arg:
			exact = append(exact, s)
		case strings.HasPrefix(s.ID, arg), strings.HasPrefix(s.Name(), arg):
			prefix = append(prefix, s)
		}
	}
	found := exact
	if len(exact) == 0 {
		found = prefix
	}
	switch {
	case len(found) == 0:
		return scan.Shim{}, fmt.Errorf("no shim has the pid or container id %q; `shimctl ps` lists them", arg)
	case len(found) > 1:
		return scan.Shim{}, fmt.Errorf("%q is ambiguous: %s and %s", arg, found[0].Name(), found[1].Name())
	case len(exact) == 0 && notPid == nil && pid <= mostPid:
		return scan.Shim{}, fmt.Errorf("no shim has the pid %d; for %s give more of the id", pid, found[0].Name())
	}
	return found[0], nil
}
