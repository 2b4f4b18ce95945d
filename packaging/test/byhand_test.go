// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestByHandAgain: the commands of docs/install.md that exchange the file by hand may be given
// again, also after the owner's package has written over the link: it is the owner's newest shim
// that comes back.
func TestByHandAgain(t *testing.T) {
	doc := read(t, filepath.Join(tree, "docs/install.md"))
	for name, upgrades := range map[string]struct{ before, after bool }{
		"once": {}, "owner's upgrade, and again": {before: true}, "owner's upgrade, and back": {after: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			commands := func(mark string) string {
				_, text, ok := strings.Cut(doc, "<!-- run: "+mark+" -->\n")
				if !ok {
					t.Fatalf("no commands called %q", mark)
				}
				text, _, _ = strings.Cut(strings.TrimLeft(text, "\n"), "\n\n")
				return strings.ReplaceAll(text, "/usr/", root+"/usr/")
			}
			path := filepath.Join(root, "usr/bin/docker-containerd-shim")
			replace := func(text string) { // as package managers do
				write(t, path+".dpkg-new", text, 0o755)
				if err := os.Rename(path+".dpkg-new", path); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(root, "usr/local/lib/containerd-shim/containerd-shim"), "ours", 0o755)
			write(t, path, "old", 0o755)
			want := "old"
			run(t, command(root, "sh", "-ec", commands("swap")))
			if upgrades.before {
				replace("new")
				want = "new"
			}
			for range 2 {
				run(t, command(root, "sh", "-ec", commands("swap")))
			}
			if got := read(t, path); got != "ours" {
				t.Errorf("got %s, want ours", got)
			}
			if upgrades.after {
				replace("new")
				want = "new"
			}
			for range 2 {
				run(t, command(root, "sh", "-ec", commands("swap back")))
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if got := read(t, path); err != nil || got != want || len(entries) != 1 {
				t.Errorf("back: got %s, want %s; %v, %v", got, want, entries, err)
			}
		})
	}
}
