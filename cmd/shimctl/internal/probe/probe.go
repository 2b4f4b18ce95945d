// SPDX-License-Identifier: Apache-2.0

// Package probe asks a v1 shim over its own socket whether it still answers.
//
// ShimInfo takes no lock in any release; State takes the service's mutex, and
// in v1.1 forks `runc state` under it. A shim that answers the first in a
// millisecond and the second not at all is wedged, not busy. Each unanswered
// State leaves a goroutine in the shim, so it is asked sparingly.
package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	task "github.com/containerd/containerd/api/types/task"
	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// Answer is the outcome of one call.
type Answer struct {
	Asked    bool
	OK       bool   // answered; an error status is an answer, too
	Status   string // that error, "" if it was answered without one
	TimedOut bool
	Denied   bool // for want of permission
	Took     time.Duration
	Err      string // why it failed, when it is neither
}

// Answers are those of one shim.
type Answers struct {
	ShimInfo Answer
	State    Answer
	// Ended reports whether State was answered and the container has ended, or the
	// shim has none. EndedAt is when it ended, zero if the shim does not say.
	Ended   bool
	EndedAt time.Time
}

// Serves reports whether a shim that has a container, and was asked for its State, knows
// it. A new program that could not read the state answers as well, but with NotFound.
func (a *Answers) Serves() bool { return a.ShimInfo.OK && a.State.OK && a.State.Status == "" }

// Question is what a shim is asked.
type Question struct {
	Limit time.Duration // for each call
	State bool          // whether to ask State, too, if ShimInfo is answered
	Slow  time.Duration // after it an answer to State is late
	// Proven, if it is not nil, is called once if State is late. If it returns true nothing
	// more is waited for, and State counts as timed out.
	Proven func() bool
}

// Ask calls ShimInfo, and then State if that is wanted.
func Ask(ctx context.Context, root string, s *scan.Shim, q Question) Answers {
	var a Answers
	start := time.Now()
	conn, err := dial(root, s, q.Limit)
	if err != nil {
		a.ShimInfo = Answer{Asked: true, Took: time.Since(start), TimedOut: os.IsTimeout(err), Denied: errors.Is(err, os.ErrPermission), Err: err.Error()}
		return a
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	api := shimapi.NewShimClient(client)
	a.ShimInfo = call(ctx, q.Limit, func(ctx context.Context) error {
		_, err := api.ShimInfo(ctx, &emptypb.Empty{})
		return err
	})
	if !q.State || !a.ShimInfo.OK {
		return a
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan Answer, 1)
	go func() {
		answered <- call(ctx, q.Limit, func(ctx context.Context) error { return a.state(ctx, api, s.ID) })
	}()
	select {
	case a.State = <-answered:
		return a
	case <-time.After(q.Slow):
	}
	if q.Proven != nil && q.Proven() {
		cancel()
	}
	a.State = <-answered
	return a
}

// state asks for the container's state, and notes whether it has ended.
func (a *Answers) state(ctx context.Context, api shimapi.ShimService, id string) error {
	got, err := api.State(ctx, &shimapi.StateRequest{ID: id})
	switch {
	case status.Code(err) == codes.NotFound:
		a.Ended = true
	case err == nil && got.Status == task.Status_STOPPED:
		a.Ended = true
		if at := got.ExitedAt.AsTime(); got.ExitedAt.IsValid() && at.Unix() > 0 {
			a.EndedAt = at
		}
	}
	return err
}

func call(ctx context.Context, limit time.Duration, do func(context.Context) error) Answer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	err := do(ctx)
	a := Answer{Asked: true, Took: time.Since(start)}
	switch {
	case err == nil:
		a.OK = true
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) || status.Code(err) == codes.DeadlineExceeded: // the shim knows the limit, too
		a.TimedOut = true
	case isStatus(err):
		a.OK, a.Status = true, err.Error()
	default:
		a.Err = err.Error()
	}
	return a
}

// isStatus reports whether the shim itself sent the error.
func isStatus(err error) bool {
	st, ok := status.FromError(err)
	return ok && st.Code() != codes.DeadlineExceeded && !errors.Is(err, ttrpc.ErrClosed)
}

// dial connects to the shim's socket. containerd from v1.3 writes the address
// into the bundle, which is the shim's working directory; before, it was an
// abstract name made of namespace and id. Anybody may listen on an abstract name, and in
// the place of one that only differs by its end: what another user listens on is passed over.
func dial(root string, s *scan.Shim, limit time.Duration) (net.Conn, error) {
	own := filepath.Join(root, strconv.Itoa(s.PID))
	d := net.Dialer{Timeout: limit}
	list, first := addresses(own, s)
	for _, address := range list {
		conn, err := d.Dial("unix", address)
		if err == nil {
			if err = listensAs(conn, s.UID); err == nil {
				return conn, nil
			}
			conn.Close()
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("no listening socket found")
	}
	return nil, fmt.Errorf("%w: %w", ErrConnect, first)
}

// listensAs is an error unless the other end's user is uid. The kernel tells who called
// listen(2): the shim, or its daemon for it, of the same user.
func listensAs(conn net.Conn, uid int) error {
	raw, err := conn.(*net.UnixConn).SyscallConn() // dialled as such
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return e
	}
	if err != nil {
		return os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	if int(peer.Uid) != uid {
		return fmt.Errorf("%s is user %d's, and the shim user %d's", conn.RemoteAddr(), peer.Uid, uid)
	}
	return nil
}

// ErrConnect is wrapped by the error if there is no connection: the shim was asked nothing.
var ErrConnect = errors.New("connect to shim")

// addresses returns where the shim may listen, or an error if that may not be seen.
func addresses(own string, s *scan.Shim) (list []string, err error) {
	b, err := scan.ReadFile(filepath.Join(own, "cwd", "address"), 4096)
	if err == nil {
		list = append(list, unixAddress(own, strings.TrimSpace(string(b))))
	} else {
		list = append(list, "@/containerd-shim/"+s.Namespace+"/"+s.ID+"/shim.sock")
	}
	if !errors.Is(err, os.ErrPermission) {
		err = nil
	}
	return terminated(append(list, listening(own)...)), err
}

// terminated adds to each abstract name the one with a NUL at its end. What listens is
// made by the daemon, and older Go, with which all daemons were built that used abstract
// names, counted that NUL as part of the name; /proc/net/unix shows it as one more "@".
func terminated(list []string) (all []string) {
	for _, address := range list {
		all = append(all, address)
		if name, ok := strings.CutPrefix(address, "@"); ok {
			all = append(all, "@"+strings.TrimSuffix(name, "@")+"\x00")
		}
	}
	return all
}

// unixAddress turns an address as containerd writes it into one for Dial. Its path
// is one in the shim's mount namespace.
func unixAddress(own, address string) string {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return "@" + strings.TrimPrefix(address, "@")
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return filepath.Join(own, "root", path)
}

// mostSockets bounds the sockets that are tried. A shim has one.
const mostSockets = 4

// listening finds the sockets that the process listens on: a descriptor's
// inode, looked up in the table of its network namespace.
func listening(own string) []string {
	inodes := map[string]bool{}
	entries, _ := os.ReadDir(filepath.Join(own, "fd"))
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join(own, "fd", e.Name()))
		if in, ok := strings.CutPrefix(to, "socket:["); ok {
			inodes[strings.TrimSuffix(in, "]")] = true
		}
	}
	table, err := os.Open(filepath.Join(own, "net", "unix"))
	if err != nil {
		return nil
	}
	defer table.Close()
	var list []string
	lines := bufio.NewScanner(table)
	for lines.Scan() && len(list) < mostSockets { // Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(lines.Text())
		const acceptsConnections = "00010000" // __SO_ACCEPTCON
		if len(f) == 8 && f[3] == acceptsConnections && inodes[f[6]] {
			list = append(list, f[7])
		}
	}
	return list
}
