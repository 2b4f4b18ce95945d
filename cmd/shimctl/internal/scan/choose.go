// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Host lists the shims of the host whose /proc is root. It is an error if neither a
// shim nor any other process of the host is visible.
func Host(root string) ([]Shim, error) {
	all, err := Shims(root)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", root, err)
	}
	if len(all) == 0 && blind(root) { // "there is none" would be a lie
		return nil, errBlind
	}
	return all, nil
}

// Find lists the shims of the host, or of a containerd namespace if one is given, that
// the arguments name, as Choose does.
func Find(root, namespace string, args []string) ([]Shim, error) {
	all, err := Host(root)
	if err != nil {
		return nil, err
	}
	return Choose(inNamespace(all, namespace), args)
}

// errBlind is returned when no shim is visible and nothing of the host is.
var errBlind = fmt.Errorf("no process of the host is visible in %s: %w", "/proc", os.ErrPermission)

// blind reports whether /proc is not the host's, or hides it: the kernel's
// thread daemon has pid 2 in the host's pid namespace and is in no other.
func blind(root string) bool {
	p, ok := Any(root, 2)
	return !ok || p.Comm != "kthreadd"
}

// Choose picks the shims that the arguments name: a pid, a container id, the
// beginning of one, or namespace/id. No argument means all.
func Choose(all []Shim, args []string) ([]Shim, error) {
	if len(args) == 0 {
		return all, nil
	}
	var chosen []Shim
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

// matching returns the one shim that arg names. A pid comes before an id, and is never taken for
// the beginning of one: if the shim with that pid has just ended, another one would get the signal
// that was meant for it. Anybody can give a Foreign one the id of another, which does not hide that.
func matching(all []Shim, arg string) (Shim, error) {
	pid, notPid := strconv.Atoi(arg)
	if i := slices.IndexFunc(all, func(s Shim) bool { return notPid == nil && s.PID == pid }); i >= 0 {
		return all[i], nil
	}
	exact, prefix := byName(all, arg, false)
	if len(exact)+len(prefix) == 0 {
		exact, prefix = byName(all, arg, true)
	}
	found := exact
	if len(exact) == 0 {
		found = prefix
	}
	switch {
	case len(found) == 0:
		return Shim{}, fmt.Errorf("no shim has the pid or container id %q; `shimctl ps` lists them", arg)
	case len(found) > 1:
		return Shim{}, fmt.Errorf("%q is ambiguous: %s and %s", arg, found[0].Name(), found[1].Name())
	case len(exact) == 0 && notPid == nil && pid <= mostPid:
		return Shim{}, fmt.Errorf("no shim has the pid %d; for %s give more of the id", pid, found[0].Name())
	}
	return found[0], nil
}

// byName returns the shims whose id or name is arg, and those whose begins with it.
func byName(all []Shim, arg string, foreign bool) (exact, prefix []Shim) {
	for _, s := range all {
		switch {
		case s.Foreign != foreign:
		case s.ID == arg, s.Name() == arg:
			exact = append(exact, s)
		case strings.HasPrefix(s.ID, arg), strings.HasPrefix(s.Name(), arg):
			prefix = append(prefix, s)
		}
	}
	return exact, prefix
}

// inNamespace picks the shims of a containerd namespace; "" means all.
func inNamespace(all []Shim, namespace string) []Shim {
	if namespace == "" {
		return all
	}
	var some []Shim
	for _, s := range all {
		if s.Namespace == namespace {
			some = append(some, s)
		}
	}
	return some
}
