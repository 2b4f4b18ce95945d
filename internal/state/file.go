// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"containerd-shim.v1/internal/atomicfile"
)

// maxFile bounds what is read, in bytes. The state of a shim with a thousand execs
// that are yet to be started, each with its spec, has some megabytes.
const maxFile = 256 << 20

// ErrVersion is wrapped by the error for a file of a newer version.
var ErrVersion = errors.New("written by a newer version")

// Write sets s.Version and writes s to path, in a file that only its owner can
// read: the environments in its specs may hold secrets. The file is written under
// another name and renamed, so that path never has half of it; a file that is
// there is replaced.
func Write(path string, s *Shim) error {
	s.Version = Version
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return atomicfile.Write(path, data, 0o600)
}

// ReadFile reads a file that Write wrote, and checks it; see Read.
func ReadFile(path string) (*Shim, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Read reads one value of this or an older version, and returns it with the error
// of its Check. The error wraps ErrVersion if the version is newer.
func Read(r io.Reader) (*Shim, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("state: larger than %d bytes", maxFile)
	}
	var version struct{ Version int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	switch {
	case version.Version > Version:
		return nil, fmt.Errorf("state: version %d: %w than %d", version.Version, ErrVersion, Version)
	case version.Version < 1:
		return nil, fmt.Errorf("state: no version")
	}
	s := new(Shim)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return s, s.Check()
}
