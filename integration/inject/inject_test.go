// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"os"
	"testing"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/suite"
)

func TestMain(m *testing.M) { os.Exit(suite.Main(m)) }

func TestCount(t *testing.T) {
	suite.Run(t, "count", Limit, func(c *harness.Case) {
		calls, _ := Live(c, faults.Fault{})
		c.Logf("%v", calls)
	})
}
