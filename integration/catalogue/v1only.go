// SPDX-License-Identifier: Apache-2.0

package catalogue

// Why a v2 shim is not asked.
const (
	noFlag    = "a flag of v1's command line"
	noBinary  = "a v2 shim does not run the daemon's binary: its events go over ttrpc, or wait"
	noWorkdir = "a v2 shim has no work directory"
)

// v1Only lists the checks that are about what only v1 shims have, and why: they do not run
// on v2 shims, and do not count there.
var v1Only = map[string]string{
	"B59":  noFlag,
	"B59b": noFlag,
	"B59c": noFlag,
	"B60b": noFlag,
	"B61b": noFlag,
	"B62":  noWorkdir,
	"B62b": noWorkdir,
	"C02":  "those daemons know no v2 shims",
	"C06":  "a v2 shim has neither stdout nor stderr of the daemon's",
	"C17":  "a v2 shim makes its socket itself, and removes it",
	"C19":  noBinary,
	"F06":  noBinary,
	"F15b": "the daemon of a v2 shim takes NotFound for deleted, and cleans up",
	"F20":  "a v2 shim publishes the start itself",
	"F21":  noBinary,
}
