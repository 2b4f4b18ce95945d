// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"time"

	"containerd-shim.v1/internal/errclass"
)

// send writes all of b to the socket, and returns how much it has written. That there is
// no memory would be the end of the connection to ttrpc's server, and a containerd that
// was restarted takes that for the shim's death and kills the container.
func (c *conn) send(b []byte) (sent int, err error) {
	for {
		n, err := c.Conn.Write(b[sent:])
		if sent += n; !errclass.Starved(err) {
			return sent, err
		}
		time.Sleep(errclass.Pause)
	}
}
