// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// All parsing of runtime error text is in this file.

// maxMessage bounds what is quoted of a runtime's output.
const maxMessage = 4096

// maxLog bounds how much of the end of a runtime's log is read.
const maxLog = 1 << 20

// RuntimeError is a runtime call that failed.
type RuntimeError struct {
	Verb string
	// Message is the last error that the runtime logged during this call, or
	// else the last line that it wrote, or else how it ended.
	Message string
	class   error
	cause   error // a *reaper.StartError; nil if the runtime ran
}

func (e *RuntimeError) Error() string {
	switch e.Verb {
	case "kill", "delete":
		return fmt.Sprintf("runc %s: %s", e.Verb, e.Message)
	case "ps":
		return "OCI runtime ps failed: " + e.Message
	}
	// dockerd looks for these words (moby daemon/errors.go).
	return fmt.Sprintf("OCI runtime %s failed: %s", e.Verb, e.Message)
}

// Unwrap returns the class, and the error with which the start failed.
func (e *RuntimeError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.class}
	}
	return []error{e.class, e.cause}
}

// failure is what is known of a call that failed.
type failure struct {
	verb, command string
	log           *os.File // the call's own; nil if there is none
	output        []byte   // what the call wrote, so far as it was not the process's
	status        int
	err           error // of reaper.Monitor.Run
	ctxErr        error // the cause of the end of the call's context
	took          time.Duration
}

// NeverExecuted is the status of a forked process that could neither execute its program
// nor say so: in a full memory cgroup there is no page for either. (Go's syscall package,
// forkAndExecInChild.)
const NeverExecuted = 253

// explain turns the failure of a runtime call into a RuntimeError.
func explain(f failure) error {
	e := &RuntimeError{Verb: f.verb, class: errdefs.ErrInternal}
	if neverRan(f.err) {
		e.cause = f.err
	}
	switch {
	case errors.Is(f.ctxErr, context.DeadlineExceeded):
		e.Message = fmt.Sprintf("no answer within %v, killed", f.took.Round(time.Millisecond))
		switch {
		case e.cause != nil:
			e.Message = fmt.Sprintf("%s could not be read within %v", f.command, f.took.Round(time.Millisecond))
		case errors.Is(f.err, reaper.ErrUnkillable):
			e.Message += ", but still not dead"
		}
		e.class = context.DeadlineExceeded
		return e
	case errors.Is(f.ctxErr, context.Canceled):
		e.Message, e.class = "killed: the shim is shutting down", errdefs.ErrUnavailable
		return e
	case f.ctxErr != nil: // the context's cause says why
		e.Message, e.class = "killed: "+f.ctxErr.Error(), f.ctxErr
		return e
	case f.err != nil: // not started
		e.Message = f.err.Error()
		switch {
		case errclass.Exhausted(f.err):
			e.class = errdefs.ErrResourceExhausted
		case errclass.NoProgram(f.err):
			e.class = errdefs.ErrFailedPrecondition
		}
		return e
	}
	text := cmp.Or(lastLogged(f.log), lastError(bytes.NewReader(f.output)), lastLine(string(f.output)))
	if text == "" && f.status == NeverExecuted {
		e.cause = &reaper.StartError{Err: &os.PathError{Op: "execve", Path: f.command, Err: unix.ENOMEM}}
		e.Message, e.class = e.cause.Error(), errdefs.ErrResourceExhausted
		return e
	}
	e.Message = cmp.Or(text, fmt.Sprintf("%s did not terminate successfully: exit status %d", f.command, f.status))
	if f.verb == "kill" && (meansGone(e.Message) || meansUnknown(e.Message)) {
		e.class = errdefs.ErrNotFound
	}
	return e
}

// lastLogged returns the last message of level error in a log, which may be nil.
func lastLogged(log *os.File) string {
	if log == nil {
		return ""
	}
	st, err := log.Stat()
	if err != nil {
		return ""
	}
	from := max(0, st.Size()-maxLog)
	return lastError(io.NewSectionReader(log, from, st.Size()-from))
}

// lastError returns the last message of level error in a JSON log. Lines that
// are not JSON are passed over.
func lastError(r io.Reader) string {
	last := ""
	lines := bufio.NewReaderSize(r, 4096)
	for {
		line, err := lines.ReadBytes('\n')
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
		if err != nil {
			return shorten(strings.TrimSpace(last))
		}
	}
}

// lastLine returns the last line of text that is not blank.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return shorten(strings.TrimSpace(text))
}

// shorten keeps the end of a long message, where the cause is.
func shorten(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	s = s[len(s)-maxMessage:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return "..." + s
}

// goneTexts are the messages of runtimes that nothing is left to signal: runc 1.0
// and 1.1 (the first three), runc 1.2 and later, crun, youki.
var goneTexts = []string{
	"process already finished",
	"container not running",
	"no such process",
	"does not exist",
	"no such container",
	"is not running", // crun: container `x` is not running
	"process not running",
}

func meansGone(msg string) bool {
	msg = strings.ToLower(msg)
	for _, t := range goneTexts {
		if strings.Contains(msg, t) {
			return true
		}
	}
	return false
}

// unknownContainer reports whether err is a runtime's message that it does not know
// the container.
func unknownContainer(err error) bool {
	var e *RuntimeError
	return errors.As(err, &e) && e.cause == nil && !errors.Is(e.class, context.DeadlineExceeded) && meansUnknown(e.Message)
}

// meansUnknown recognises the messages of runc, youki and crun. Up to 1.21, and of a delete
// still in 1.28, crun names what is missing: error opening file `<root>/<id>/status`: No such
// file or directory, and cannot open directory `<root>/<id>`: No such file or directory.
func meansUnknown(msg string) bool {
	return strings.Contains(msg, "does not exist") || strings.Contains(msg, "no such container") ||
		strings.Contains(msg, "/status`: No such file or directory") ||
		strings.HasPrefix(msg, "cannot open directory ") && strings.HasSuffix(msg, ": No such file or directory")
}

// killError returns Kill's answer to a failure of "runc kill".
func killError(err error) error {
	switch {
	case err == nil:
		return nil
	case unknownContainer(err):
		return fmt.Errorf("no such container: %w", errdefs.ErrNotFound)
	case errors.Is(err, errdefs.ErrNotFound):
		return errFinished()
	case errors.Is(err, context.DeadlineExceeded):
		return err
	}
	var e *RuntimeError
	if errors.As(err, &e) {
		return &classed{"unknown error after kill: " + e.Error(), e.class}
	}
	return err
}
