// SPDX-License-Identifier: Apache-2.0

package upstream

import "errors"

// ErrRefused is wrapped by errors for what cannot be taken over; ErrBusy for what may
// be gone in a moment.
var (
	ErrRefused = errors.New("refused")
	ErrBusy    = errors.New("busy")
)

// Report says what is taken over and what is lost.
type Report struct {
	Release   string    `json:"release"`
	Processes int       `json:"processes"`      // alive
	Exits     int       `json:"exits"`          // reaped by the old program and not dealt with: they are published
	Unknown   int       `json:"unknown"`        // processes that have ended and of which nobody knows how
	Requests  []Request `json:"requests"`       // unanswered
	Abandoned int       `json:"abandoned"`      // unanswered, and their clients are gone
	Lost      []string  `json:"lost,omitempty"` // what else is not taken over
}

// Request is one that waits for its answer.
type Request struct {
	Method   string `json:"method"`
	ID       string `json:"id,omitempty"`
	Stream   uint32 `json:"stream"`
	Answered bool   `json:"answered"` // as if it came now; otherwise with an error
}
