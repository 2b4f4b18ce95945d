// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/json"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
)

// specLayout has the offsets of the fields of Process that differ between releases of
// the runtime specification.
type specLayout struct {
	umaskPointer              bool // the umask is a *uint32, not a uint32
	oomScoreAdj, selinuxLabel uint64
}

var (
	specs102 = specLayout{oomScoreAdj: 208, selinuxLabel: 216}
	specs103 = specLayout{umaskPointer: true, oomScoreAdj: 208, selinuxLabel: 216} // what came after 1.0.2
	specs110 = specLayout{umaskPointer: true, oomScoreAdj: 208, selinuxLabel: 224} // scheduler and I/O priority are not read
)

type (
	user struct {
		UID            uint32   `json:"uid"`
		GID            uint32   `json:"gid"`
		Umask          *uint32  `json:"umask,omitempty"`
		AdditionalGids []uint32 `json:"additionalGids,omitempty"`
		Username       string   `json:"username,omitempty"`
	}
	box struct {
		Height uint64 `json:"height"`
		Width  uint64 `json:"width"`
	}
	rlimit struct {
		Type string `json:"type"`
		Hard uint64 `json:"hard"`
		Soft uint64 `json:"soft"`
	}
	capabilities struct {
		Bounding    []string `json:"bounding,omitempty"`
		Effective   []string `json:"effective,omitempty"`
		Inheritable []string `json:"inheritable,omitempty"`
		Permitted   []string `json:"permitted,omitempty"`
		Ambient     []string `json:"ambient,omitempty"`
	}
	process struct {
		Terminal        bool          `json:"terminal,omitempty"`
		ConsoleSize     *box          `json:"consoleSize,omitempty"`
		User            user          `json:"user"`
		Args            []string      `json:"args"`
		Env             []string      `json:"env,omitempty"`
		Cwd             string        `json:"cwd"`
		Capabilities    *capabilities `json:"capabilities,omitempty"`
		Rlimits         []rlimit      `json:"rlimits,omitempty"`
		NoNewPrivileges bool          `json:"noNewPrivileges,omitempty"`
		ApparmorProfile string        `json:"apparmorProfile,omitempty"`
		OOMScoreAdj     *int          `json:"oomScoreAdj,omitempty"`
		SelinuxLabel    string        `json:"selinuxLabel,omitempty"`
	}
)

// spec returns the OCI process at the address, in JSON.
func (l *specLayout) spec(m *goheap.Memory, at uint64) json.RawMessage {
	p := process{
		Terminal: m.Bool(at),
		User:     user{UID: m.Uint32(at + 16), GID: m.Uint32(at + 20), Umask: l.umask(m, at+24), Username: m.String(at + 56)},
		Args:     m.Strings(at + 72), Env: m.Strings(at + 112), Cwd: m.String(at + 136),
		NoNewPrivileges: m.Bool(at + 184), ApparmorProfile: m.String(at + 192), SelinuxLabel: m.String(at + l.selinuxLabel),
	}
	if size := m.Word(at + 8); size != 0 {
		p.ConsoleSize = &box{m.Word(size), m.Word(size + 8)}
	}
	gids, n := m.Slice(at + 32)
	for i := range uint64(n) {
		p.User.AdditionalGids = append(p.User.AdditionalGids, m.Uint32(gids+4*i))
	}
	if c := m.Word(at + 152); c != 0 {
		p.Capabilities = &capabilities{m.Strings(c), m.Strings(c + 24), m.Strings(c + 48), m.Strings(c + 72), m.Strings(c + 96)}
	}
	limits, n := m.Slice(at + 160)
	for i := range uint64(n) {
		p.Rlimits = append(p.Rlimits, rlimit{m.String(limits + 32*i), m.Word(limits + 32*i + 16), m.Word(limits + 32*i + 24)})
	}
	if o := m.Word(at + l.oomScoreAdj); o != 0 {
		v := m.Int(o)
		p.OOMScoreAdj = &v
	}
	if len(p.Args) == 0 && m.String(at+96) == "" {
		m.Fail("an OCI process without arguments at %#x", at)
	}
	b, err := json.Marshal(p)
	if err != nil {
		m.Fail("an OCI process: %v", err)
	}
	return b
}

// umask returns the umask at the address, nil if the runtime is to choose it.
func (l *specLayout) umask(m *goheap.Memory, at uint64) *uint32 {
	if l.umaskPointer {
		if at = m.Word(at); at == 0 {
			return nil
		}
	}
	v := m.Uint32(at)
	if v == 0 && !l.umaskPointer {
		return nil // there it is left out of JSON, too
	}
	if v > 0o777 {
		m.Fail("a umask of %#o", v)
	}
	return &v
}
