// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"testing"
)

// FuzzProc: any process may call itself a shim. Whatever its files in /proc and in its
// bundle hold, a scan comes to its end, and what it tells is safe to print.
func FuzzProc(f *testing.F) {
	argv := "containerd-shim\x00-namespace\x00moby\x00-workdir\x00" + v1dir + "moby/abc\x00"
	f.Add([]byte("10 (containerd-shim) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 9 0 50010 0 0 0\n"), []byte(argv), []byte("TracerPid:\t1\nSigCgt:\tff\n"), []byte("1000 500 200"), []byte("11"))
	f.Add([]byte("10 (a) b) S 1"), []byte("containerd-shim-runc-v2\x00-namespace\x00x\x00-id\x00y\x00-address\x00"), []byte("TracerPid:"), []byte("1 2"), []byte("-1"))
	f.Add([]byte(")("), []byte("\x00\x00"), []byte("::\n:"), []byte(""), []byte("99999999999999999999"))
	f.Fuzz(func(t *testing.T, stat, cmdline, status, statm, pid []byte) {
		p := newProc(t)
		for name, content := range map[string][]byte{"stat": stat, "cmdline": cmdline, "status": status, "statm": statm, "cwd/init.pid": pid, "cgroup": status, "environ": cmdline} {
			p.write("10/"+name, string(content))
		}
		p.process(11, 10, "sleep", "Z", 1, "")
		shims, err := Shims(p.root)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range shims {
			if !identifier(s.ID) || !identifier(s.Namespace) || s.PID != 10 || s.Init.PID < 0 {
				t.Errorf("got %+v", s)
			}
			Sleep(p.root, s.PID)
		}
		if s, ok := One(p.root, 10, 0); ok != (len(shims) == 1) {
			t.Errorf("got %+v, %v of %d shims", s, ok, len(shims))
		}
	})
}
