// SPDX-License-Identifier: Apache-2.0

// Sbom writes a CycloneDX 1.5 bill of materials for Go binaries: what
// `go version -m` prints of each, which is what the linker put in, and not
// what go.mod would allow.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The parts of CycloneDX 1.5 that are used; the names are the schema's.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref string   `json:"ref"`
		On  []string `json:"dependsOn,omitempty"`
	}
)

func main() {
	version := flag.String("version", "", "version of the release")
	seconds := flag.Int64("time", 0, "time of the release, in seconds since 1970")
	flag.Parse()
	b, err := materials(*version, time.Unix(*seconds, 0), flag.Args())
	if err == nil {
		var text []byte
		if text, err = json.MarshalIndent(b, "", "  "); err == nil {
			_, err = fmt.Printf("%s\n", text)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// materials lists the binaries, and each module once.
func materials(version string, at time.Time, files []string) (*bom, error) {
	root := component{Type: "application", Ref: "containerd-shim@" + version, Name: "containerd-shim", Version: version}
	b := &bom{Format: "CycloneDX", Spec: "1.5", Version: 1,
		Metadata: metadata{Timestamp: at.UTC().Format(time.RFC3339), Component: root}}
	whole := dependency{Ref: root.Ref}
	modules := map[string]component{}
	for _, file := range files {
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read build information: %w", err)
		}
		c, err := binary(file, version, info)
		if err != nil {
			return nil, err
		}
		whole.On = append(whole.On, c.Ref)
		uses := dependency{Ref: c.Ref}
		for _, m := range append(info.Deps, &debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}) {
			if m.Replace != nil {
				m = m.Replace
			}
			purl := "pkg:golang/" + m.Path + "@" + m.Version
			modules[purl] = component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
			uses.On = append(uses.On, purl)
		}
		b.Components = append(b.Components, c)
		b.Dependencies = append(b.Dependencies, uses)
	}
	b.Dependencies = append(b.Dependencies, whole)
	for _, m := range modules {
		b.Components = append(b.Components, m)
		b.Dependencies = append(b.Dependencies, dependency{Ref: m.Ref})
	}
	slices.SortFunc(b.Components, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	slices.SortFunc(b.Dependencies, func(a, b dependency) int { return strings.Compare(a.Ref, b.Ref) })
	return b, nil
}

// binary describes one file, with the settings that it was built with.
func binary(file, version string, info *buildinfo.BuildInfo) (component, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return component{}, err
	}
	sum := sha256.Sum256(content)
	name := filepath.Base(file)
	c := component{Type: "application", Ref: name + "@" + version, Name: name, Version: version,
		Hashes:     []hash{{Alg: "SHA-256", Content: hex.EncodeToString(sum[:])}},
		Properties: []property{{Name: "go:version", Value: info.GoVersion}, {Name: "go:path", Value: info.Path}}}
	for _, s := range info.Settings {
		c.Properties = append(c.Properties, property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return c, nil
}
