// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
)

// record has the newest result of each cell, by pair and scenario.
type record map[string]map[string]result

// readRecord reads a record; there need not be one.
func readRecord(file string) (record, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := record{}
	return r, json.Unmarshal(data, &r)
}

func (r record) put(res result) {
	if r[res.Pair] == nil {
		r[res.Pair] = map[string]result{}
	}
	r[res.Pair][res.Scenario] = res
}

// write replaces the file as a whole.
func (r record) write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
