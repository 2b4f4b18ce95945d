// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packages says where the packages are that the models name.
type packages map[string]string

var own = packages{"reaper": "../../reaper", "proc": "../../proc", "shim": "../../shim", "publish": "../../shim/publish"}

// upstreams are the releases that upstream.pml names, with their folders in the module.
var upstreams = map[string]packages{
	"v1.1.2":  {"reaper": "reaper", "shim": "linux/shim", "proc": "linux/proc"},
	"v1.2.6":  {"reaper": "runtime/v1/shim", "shim": "runtime/v1/shim", "proc": "runtime/v1/linux/proc"},
	"v1.7.35": {"reaper": "sys/reaper", "shim": "runtime/v1/shim", "proc": "pkg/process"},
}

// outside are the parts of the models that stand for nothing in a shim.
var outside = []string{"kernel", "kill", "container", "life", "judge", "processes", "runcExec", "daemon", "stranger"}

// TestNames: each part of the shim's models names functions that there are.
func TestNames(t *testing.T) {
	files, err := fs.Glob(sources, "*.pml")
	if err != nil {
		t.Fatal(err)
	}
	there := functions(t, own)
	count := 0
	for _, file := range files {
		for _, name := range named(t, file)[""] {
			if !slices.Contains(there, name) {
				t.Errorf("%s names %s, which there is not", file, name)
			}
			count++
		}
	}
	if count < 60 {
		t.Errorf("the models name only %d functions", count)
	}
}

// TestUpstreamNames: the same for upstream's releases.
func TestUpstreamNames(t *testing.T) {
	names := named(t, "upstream.pml")
	for release, dirs := range upstreams {
		root := moduleOf(t, release)
		absolute := make(packages)
		for name, dir := range dirs {
			absolute[name] = filepath.Join(root, dir)
		}
		there := functions(t, absolute)
		for _, name := range append(names[""], names[release]...) {
			if !slices.Contains(there, name) {
				t.Errorf("upstream.pml names %s, which %s has not", name, release)
			}
		}
	}
}

var (
	part  = regexp.MustCompile(`(?m)^(?:active )?(?:proctype|inline) (\w+)\(`)
	names = regexp.MustCompile(`fn( v[\d.]+\d)?: ([\w.]+(?:, [\w.]+)*)`)
)

// named returns the functions that a model names, by release, "" for all. A part
// that names none is an error.
func named(t *testing.T, file string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(data), "*/") // what heads the file explains
	all := make(map[string][]string)
	for _, text := range strings.SplitAfter(code, "\n}\n") {
		found := names.FindAllStringSubmatch(text, -1)
		for _, m := range found {
			release := strings.TrimSpace(m[1])
			all[release] = append(all[release], strings.Split(m[2], ", ")...)
		}
		if m := part.FindStringSubmatch(text); m != nil && found == nil && !slices.Contains(outside, m[1]) {
			t.Errorf("%s: %s names no function that it stands for", file, m[1])
		}
	}
	return all
}

// functions lists what is declared, as package.Function and package.Type.Method.
func functions(t *testing.T, from packages) (all []string) {
	t.Helper()
	for name, dir := range from {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources in %s: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					all = append(all, name+"."+receiver(f)+f.Name.Name)
				}
			}
		}
	}
	return all
}

// receiver returns "Type." of a method, "" of a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name + "."
	}
	return ""
}

// moduleOf returns where upstream's release is.
func moduleOf(t *testing.T, release string) string {
	t.Helper()
	var module struct{ Dir string }
	out := run(t, filepath.Join("../upstream", release), "go", "mod", "download", "-json", "github.com/containerd/containerd")
	if err := json.Unmarshal([]byte(out), &module); err != nil || module.Dir == "" {
		t.Fatalf("where is %s? %v\n%s", release, err, out)
	}
	return module.Dir
}
