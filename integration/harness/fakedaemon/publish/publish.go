// SPDX-License-Identifier: Apache-2.0

// Package publish stands in for the daemon's own binary, which a v1 shim runs
// as `BINARY --address A publish --topic T --namespace N` with an encoded
// event on stdin. It hands the event and what it sees of itself to the fake
// daemon over the unix socket publish.sock beside argv[0] and exits as told.
package publish

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"containerd-shim.v1/integration/harness/procfs"
)

// The names by which the helper is the publisher. Docker called the daemon so
// before 18.09.
const (
	Name    = "shimverify-publish"
	Renamed = "docker-containerd"
)

// Record is one run of the publisher.
type Record struct {
	Args  []string // without argv[0]
	Fds   []string // "NUMBER TARGET" of each inherited descriptor above 2
	Event []byte   // stdin: a serialised google.protobuf.Any
}

// Reply is the fake daemon's decision.
type Reply struct {
	Exit int
	Text string
}

// Socket is the name of the fake daemon's socket beside the binary.
const Socket = "publish.sock"

// Main delivers one event and returns the exit status.
func Main(argv []string) int {
	reply, err := deliver(argv)
	if err != nil {
		reply = Reply{Exit: 1, Text: "publish: " + err.Error()}
	}
	if reply.Text != "" {
		fmt.Fprintln(os.Stderr, reply.Text)
	}
	return reply.Exit
}

func deliver(argv []string) (reply Reply, err error) {
	rec := Record{Args: argv[1:], Fds: procfs.Inherited()}
	if rec.Event, err = io.ReadAll(os.Stdin); err != nil {
		return reply, err
	}
	conn, err := net.Dial("unix", filepath.Join(filepath.Dir(argv[0]), Socket))
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(rec); err != nil {
		return reply, err
	}
	return reply, json.NewDecoder(conn).Decode(&reply)
}
