// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"containerd-shim/cmd/shimctl/internal/scan"
)

// shims scans the host.
func shims() ([]scan.Shim, error) {
	all, err := scan.Shims(procRoot)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", procRoot, err)
	}
	return all, nil
}

// errBlind is returned when no shim is visible and nothing of the host is.
var errBlind = fmt.Errorf("no process of the host is visible in %s: %w", "/proc", os.ErrPermission)

// blind is true when /proc is not the host's, or hides it: the kernel's thread
// daemon has pid 2 in the host's pid namespace and is in no other.
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
		found := matching(all, a)
		switch {
		case len(found) == 0:
			return nil, fmt.Errorf("no shim has the pid or container id %q (`shimctl ps` lists them): %w", a, os.ErrNotExist)
		case len(found) > 1:
			return nil, fmt.Errorf("%q is ambiguous: %s and %s", a, found[0].Name(), found[1].Name())
		}
		chosen = append(chosen, found[0])
	}
	return chosen, nil
}

func matching(all []scan.Shim, arg string) []scan.Shim {
	pid, _ := strconv.Atoi(arg)
	var exact, prefix []scan.Shim
	for _, s := range all {
		switch {
		case pid != 0 && s.PID == pid, s.ID == arg, s.Name() == arg:
			exact = append(exact, s)
		case strings.HasPrefix(s.ID, arg), strings.HasPrefix(s.Name(), arg):
			prefix = append(prefix, s)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return prefix
}
