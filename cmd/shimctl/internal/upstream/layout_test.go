// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package upstream

import (
	"debug/dwarf"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// structs returns the structures of a program, by name, with the offset and the type of
// each field, as the compiler has described them (DWARF).
func structs(t *testing.T, path string) (offsets map[string]map[string]uint64, types map[string]map[string]string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	offsets, types = map[string]map[string]uint64{}, map[string]map[string]string{}
	r := d.Reader()
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return offsets, types
		}
		if e.Tag != dwarf.TagStructType {
			if e.Tag != dwarf.TagCompileUnit {
				r.SkipChildren()
			}
			continue
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		typ, err := d.Type(e.Offset)
		if err != nil {
			t.Fatal(err)
		}
		r.SkipChildren()
		offsets[name], types[name] = map[string]uint64{}, map[string]string{}
		for _, f := range typ.(*dwarf.StructType).Field {
			offsets[name][f.Name], types[name][f.Name] = uint64(f.ByteOffset), f.Type.String()
		}
	}
}

// TestLayouts: the tables agree with the compiler's description of each release, which
// is stripped from the programs that are in use.
func TestLayouts(t *testing.T) {
	dir := os.Getenv("SHIM_BASELINES")
	for _, r := range releases {
		t.Run(r.Name, func(t *testing.T) {
			all, types := structs(t, filepath.Join(dir, r.Name, "containerd-shim"))
			want := func(typ string, fields map[string]uint64) {
				t.Helper()
				got := all[typ]
				if got == nil {
					t.Fatalf("no type %s", typ)
				}
				for name, offset := range fields {
					if at, ok := got[name]; !ok || at != offset {
						t.Errorf("%s.%s is at %d (%v), the table says %d", typ, name, at, ok, offset)
					}
				}
			}
			want(r.service+".Service", map[string]uint64{"processes": serviceProcesses, "events": serviceEvents, "ec": serviceExits, "id": serviceID})
			init := map[string]uint64{"waitBlock": r.init.waitBlock, "id": r.init.id, "console": r.init.console, "io": r.init.io, "runtime": r.init.runtime,
				"status": r.init.status, "exited": r.init.exited, "pid": r.init.pid, "stdio": r.init.stdio, "IoUID": r.init.ioUID, "IoGID": r.init.ioUID + 8, "initState": r.init.state}
			bundle := "Bundle"
			if r.Name == "v1.1.2" {
				bundle = "bundle"
			}
			init[bundle] = r.init.bundle
			if r.init.noPivotRoot != 0 {
				init["NoPivotRoot"], init["NoNewKeyring"] = r.init.noPivotRoot, r.init.noPivotRoot+1
			}
			if r.init.criuWork != 0 {
				init["CriuWorkPath"] = r.init.criuWork
			}
			want(r.process+".Init", init)
			exec := map[string]uint64{"waitBlock": r.exec.waitBlock, "id": r.exec.id, "console": r.exec.console, "io": r.exec.io, "status": r.exec.status,
				"exited": r.exec.exited, "pid": r.exec.pid, "stdio": r.exec.stdio, "spec": r.exec.spec, "parent": r.exec.parent}
			name := "State"
			if r.safePid {
				name = "execState"
				want(r.process+".safePid", map[string]uint64{"pid": 8})
			}
			exec[name] = r.exec.state
			want(r.process+".execProcess", exec)
			const specs = "github.com/opencontainers/runtime-spec/specs-go."
			want(specs+"Process", map[string]uint64{"Terminal": 0, "ConsoleSize": 8, "User": 16, "Args": 72, "CommandLine": 96, "Env": 112, "Cwd": 136, "Capabilities": 152,
				"Rlimits": 160, "NoNewPrivileges": 184, "ApparmorProfile": 192, "OOMScoreAdj": r.specs.oomScoreAdj, "SelinuxLabel": r.specs.selinuxLabel})
			if pointer := strings.HasPrefix(types[specs+"User"]["Umask"], "*"); pointer != r.specs.umaskPointer {
				t.Errorf("the umask is a pointer: %v", pointer)
			}
			any := "github.com/gogo/protobuf/types.Any"
			if r.calls {
				any = "google.golang.org/protobuf/types/known/anypb.Any"
			}
			want(any, map[string]uint64{"TypeUrl": r.any, "Value": r.any + 16})
			want(specs+"User", map[string]uint64{"UID": 0, "GID": 4, "Umask": 8, "AdditionalGids": 16, "Username": 40})
			want(r.ttrpc+".channel", map[string]uint64{"br": channelReader, "hrbuf": channelHeader})
			want("github.com/containerd/console.EpollConsole", map[string]uint64{"sysfd": 32, "closed": 40})
			want("github.com/containerd/go-runc.Runc", map[string]uint64{"Command": 0})
			want("github.com/containerd/go-runc.Exit", map[string]uint64{"Timestamp": 0, "Pid": 24, "Status": 32})
			want("bufio.Reader", map[string]uint64{"r": 40, "w": 48})
			want("internal/poll.FD", map[string]uint64{"fdmu": 0, "Sysfd": fdNumber})
			if r.calls {
				want(r.ttrpc+".Request", map[string]uint64{"Service": 40, "Payload": 72})
			}
		})
	}
}
