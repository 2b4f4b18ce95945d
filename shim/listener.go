// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"net"
	"time"

	"github.com/sirupsen/logrus"
)

// acceptPause is how long is waited after a failed accept(2).
const acceptPause = 100 * time.Millisecond

// Listener wraps l so that only closing it ends it. ttrpc's server gives up at
// an error that is not temporary, such as ENOMEM, and the container would lose
// its supervisor to a moment without memory.
func Listener(l net.Listener) net.Listener { return lasting{l} }

type lasting struct{ net.Listener }

func (l lasting) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		logrus.WithError(err).Warn("accept")
		time.Sleep(acceptPause)
	}
}
