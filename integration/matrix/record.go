// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// record has the newest result of each cell, by pair and scenario. Its file is in the
// repository, because a run of all cells takes hours and is rarely one run. It has a line
// for each cell, in order, so that results of two runs can be merged.
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
	for lines := json.NewDecoder(bytes.NewReader(data)); ; {
		var res result
		if err := lines.Decode(&res); errors.Is(err, io.EOF) {
			return r, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		r.put(res)
	}
}

func (r record) put(res result) {
	if r[res.Pair] == nil {
		r[res.Pair] = map[string]result{}
	}
	r[res.Pair][res.Scenario] = res
}

// write replaces the file as a whole.
func (r record) write(file string) error {
	var b bytes.Buffer
	for _, pair := range slices.Sorted(maps.Keys(r)) {
		for _, scenario := range slices.Sorted(maps.Keys(r[pair])) {
			if err := r[pair][scenario].write(&b); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(file+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// missing returns those of a pair's scenarios that have no result yet. Without that of
// the census all are: it is one of what was run before it.
func (r record) missing(p pair, scenarios []string) []string {
	if r[p.String()][census].Verdict == "" {
		return slices.Clone(scenarios)
	}
	return slices.DeleteFunc(slices.Clone(scenarios), func(name string) bool { return r[p.String()][name].Verdict != "" })
}

// whole reports whether every cell has a result.
func (r record) whole() bool {
	return !slices.ContainsFunc(pairs(), func(p pair) bool { return len(r.missing(p, options{}.chosen(p))) > 0 })
}
