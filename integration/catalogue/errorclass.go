// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"google.golang.org/grpc/codes"

	"containerd-shim.v1/integration/harness"
)

var errorClassChecks = []Check{
	{ID: "B48", Name: "classes of errors",
		Incident: "containerd #3244, #3730, #3736: plain errors surface as Unknown",
		Asserts:  "FailedPrecondition for what the state does not allow, NotFound for unknown ids",
		Run:      errorClasses},
}

func errorClasses(c *harness.Case) {
	b := c.Fixture(harness.Options{})
	c.Must(b.Create(), "Create")
	wantCode(c, "Pause of a created container", b.Pause(), precondition)
	b.MustStart(b.ID)
	if !c.V2 { // there the ids of containers and of execs are names of two kinds
		_, err := b.DeleteProcess(b.ID)
		wantCode(c, "DeleteProcess of init", err, invalid)
		wantCode(c, "Exec with the container's id", b.Exec(b.ID, harness.IO{}, "exit:0"), exists)
	}
	for _, row := range []struct {
		what string
		call func() error
		want codes.Code
	}{
		{"Start of a running container", func() error { _, err := b.Client.Start(b.ID); return err }, precondition},
		{"Delete of a running container", func() error { _, err := b.Delete(); return err }, precondition},
		{"Resume of a running container", b.Resume, precondition},
		{"State of an unknown id", func() error { _, err := b.State("nobody"); return err }, notFound},
		{"Start of an unknown id", func() error { _, err := b.Client.Start("nobody"); return err }, notFound},
		{"Kill of an unknown id", func() error { return b.Kill("nobody", 9, false) }, notFound},
		{"Wait of an unknown id", func() error { _, err := b.Wait("nobody"); return err }, notFound},
		{"CloseIO of an unknown id", func() error { return b.CloseIO("nobody") }, notFound},
		{"ResizePty of an unknown id", func() error { return b.ResizePty("nobody", 1, 1) }, notFound},
		{"DeleteProcess of an unknown id", func() error { _, err := b.DeleteProcess("nobody"); return err }, notFound},
	} {
		wantCode(c, row.what, row.call(), row.want)
	}
}
