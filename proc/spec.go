// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"containerd-shim.v1/internal/errclass"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// sharesPidNamespace reports whether the container's processes may outlive its
// init: without a pid namespace of its own the kernel does not end them. It returns
// true, to be safe, if config.json cannot be read.
func sharesPidNamespace(bundle string) bool {
	f, err := os.Open(filepath.Join(bundle, "config.json"))
	if err != nil {
		return true
	}
	defer f.Close()
	var spec struct {
		Linux struct {
			Namespaces []specs.LinuxNamespace `json:"namespaces"`
		} `json:"linux"`
	}
	if err := json.NewDecoder(f).Decode(&spec); err != nil {
		return true
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return ns.Path != "" // a path: it joins another one
		}
	}
	return true
}

// parseExecSpec reads an OCI process as containerd sends it, in JSON.
func parseExecSpec(raw []byte, terminal bool) (specs.Process, error) {
	var spec specs.Process
	if err := json.Unmarshal(raw, &spec); err != nil {
		return spec, invalidf("exec process spec: %w", err)
	}
	if len(spec.Args) == 0 {
		return spec, invalidf("exec process spec: no args")
	}
	spec.Terminal = terminal
	return spec, nil
}

// CheckBundle returns an error of class InvalidArgument if path is not that of a directory,
// and of another if that cannot be found out.
func CheckBundle(path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), err == nil && !st.IsDir():
		return invalidf("bundle %q is not a directory", path)
	case err != nil:
		return errclass.Pathf("bundle: %w", err)
	}
	return nil
}
