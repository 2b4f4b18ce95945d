// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// starved reports whether a socket's call has failed only because its memory cgroup, or
// the host, had none left. Nothing was moved, and the call succeeds once there is
// some: with unix(7) sockets ENOMEM and ENOBUFS mean nothing else, and EFAULT is what
// the call gets when a page of its buffer cannot be had. To ttrpc's server it would be
// the end of the connection, and a containerd that was restarted takes that for the
// shim's death and kills the container.
func starved(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EFAULT)
}

// starvedPause is how long the call rests before it is made again.
const starvedPause = 10 * time.Millisecond

// send writes all of b to the socket, and returns how much it has written.
func (c *conn) send(b []byte) (sent int, err error) {
	for {
		n, err := c.Conn.Write(b[sent:])
		if sent += n; !starved(err) {
			return sent, err
		}
		time.Sleep(starvedPause)
	}
}
