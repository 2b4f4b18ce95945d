// SPDX-License-Identifier: Apache-2.0

// Package atomicfile writes files that a reader sees whole or not at all.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Write writes data to a new file beside path and renames it to path, replacing
// what is there. On an error path is as it was.
func Write(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, func(*os.File) error { return nil })
}

// WriteDurable does the same, and returns once the file is on the disk.
func WriteDurable(path string, data []byte, mode os.FileMode) error {
	if err := write(path, data, mode, (*os.File).Sync); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func write(path string, data []byte, mode os.FileMode, sync func(*os.File) error) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), sync(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what a full disk has left of it
	}
	return err
}

// Unfinished reports whether name is that of a file that Write was writing, for
// a directory where what a killed writer has left is cleaned up, and returns
// the name that it would have got.
func Unfinished(name string) (final string, ok bool) {
	end := strings.LastIndexByte(name, '.')
	if end < 2 || name[0] != '.' {
		return "", false
	}
	return name[1:end], true
}
