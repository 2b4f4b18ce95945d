// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"containerd-shim.v1/internal/atomicfile"
)

// The results of an exchange in place. Failed is one more: the old program runs on.
const (
	Upgraded   = "upgraded"   // of a shim that was not wedged
	Healed     = "healed"     // of a wedged one
	Unanswered = "unanswered" // the new program does not answer, or nobody knows which one runs
)

// InPlace lists the results that a Tally counts.
var InPlace = []string{Upgraded, Healed, Failed, Unanswered}

// Tally counts the exchanges in place on this host by result. Unlike the ledger it is no
// list: a counter made from a list that forgets its oldest entries would go back.
type Tally struct {
	name   string
	Counts map[string]int
}

// OpenTally reads the tally in dir, the directory of the ledger.
func OpenTally(dir string) (*Tally, error) {
	t := &Tally{name: filepath.Join(dir, "in-place.json"), Counts: map[string]int{}}
	b, err := os.ReadFile(t.name)
	if errors.Is(err, os.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t.Counts)
	}
	if err == nil && t.Counts == nil {
		err = errors.New("null is no tally")
	}
	if err != nil {
		return nil, fmt.Errorf("tally %s: %w", t.name, err)
	}
	return t, nil
}

// Add counts one exchange and writes the tally. The caller holds the host's lock.
func (t *Tally) Add(result string) error {
	t.Counts[result]++
	b, err := json.Marshal(t.Counts)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(t.name), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteDurable(t.name, b, 0o600)
}
