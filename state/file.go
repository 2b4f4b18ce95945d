// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile bounds what is read: a shim with a thousand execs that wait, each with
// its spec, has some megabytes.
const maxFile = 256 << 20

// ErrVersion is wrapped by the error for a file of a newer version.
var ErrVersion = errors.New("written by a newer version")

// Write writes s, with this package's Version, to a new file that only its owner
// can read: there are specs in it, with their environments. The file is written
// aside and renamed; one that is there is replaced.
func Write(path string, s *Shim) (err error) {
	s.Version = Version
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		_ = os.Remove(aside) // nobody looks for it
	}
	return err
}

// ReadFile reads and checks a file that Write wrote.
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

// Read reads one value of this or an older version, and checks it.
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
