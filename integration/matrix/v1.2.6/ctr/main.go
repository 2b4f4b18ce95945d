// SPDX-License-Identifier: Apache-2.0

// Command ctr is the client of containerd 1.2.6.
package main

import (
	"fmt"
	"os"

	"github.com/containerd/containerd/cmd/ctr/app"
	"github.com/containerd/containerd/pkg/seed"
)

func main() {
	seed.WithTimeAndRand()
	if err := app.New().Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "ctr:", err)
		os.Exit(1)
	}
}
