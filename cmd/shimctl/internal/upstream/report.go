// SPDX-License-Identifier: Apache-2.0

package upstream

import "errors"

// ErrRefused is wrapped by errors for what cannot be taken over, ErrBusy by errors whose
// cause may be gone in a moment.
var (
	ErrRefused = errors.New("refused")
	ErrBusy    = errors.New("busy")
)

// Report says what is taken over and what is lost.
type Report struct {
	Release   string    `json:"release"`
	Processes int       `json:"processes"`      // alive
	Exits     int       `json:"exits"`          // not dealt with by the old program; the new one publishes them
	Unknown   int       `json:"unknown"`        // processes that have ended with an unknown status
	Requests  []Request `json:"requests"`       // unanswered
	Abandoned int       `json:"abandoned"`      // unanswered requests whose clients are gone
	Lost      []string  `json:"lost,omitempty"` // what else is not taken over
}

// Request is an unanswered request.
type Request struct {
	Method   string `json:"method"`
	ID       string `json:"id,omitempty"`
	Stream   uint32 `json:"stream"`
	Answered bool   `json:"answered"` // the new program handles it as if it had just come; otherwise it gets an error
}
