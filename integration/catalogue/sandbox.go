// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// sandboxChecks are about the service that asks a shim for its pod as a whole. A shim may
// do without it (sandbox.proto: "an optional interface"), and then passes.
var sandboxChecks = []Check{
	{ID: "V13", Name: "sandbox API: the pod is alive",
		Incident: "contract: a daemon with a sandbox controller asks the shim, and not the pause container",
		Asserts:  "where the shim has it: Create, Start, Platform and Ping answer, and Wait does not return while the pod's container runs",
		Run:      sandboxAlive},
	{ID: "V13b", Name: "sandbox API: the pod is stopped",
		Incident: "contract: a pod that is stopped has no processes left",
		Asserts:  "where the shim has it: after StopSandbox the pod's container has ended; if it fails, the shim still watches it",
		Run:      sandboxStopped},
}

// podID is the sandbox's id.
const podID = "pod"

// sandbox starts a pod of one container by way of the shim's sandbox service. api is nil if
// the shim has none; then it is a container only. The caller closes the client.
func sandbox(c *harness.Case) (b *harness.Fixture, api sandboxapi.TTRPCSandboxService, client *ttrpc.Client) {
	b = c.Fixture(inPod(harness.Options{}))
	conn, err := net.Dial("unix", b.Shim.Address)
	c.Must(err, "connect")
	client = ttrpc.NewClient(conn)
	api = sandboxapi.NewTTRPCSandboxClient(client)
	err = sandboxUp(api, b.Bundle)
	if noService(err) {
		c.Logf("it has no sandbox API: %v", err)
		api = nil
	} else {
		c.Must(err, "sandbox")
	}
	b.Up()
	return b, api, client
}

// sandboxUp makes a sandbox before it asks about it. To start one may take as long as a
// virtual machine does.
func sandboxUp(api sandboxapi.TTRPCSandboxService, bundle string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := api.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: podID, BundlePath: bundle}); err != nil {
		return fmt.Errorf("CreateSandbox: %w", err)
	}
	if _, err := api.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: podID}); err != nil {
		return fmt.Errorf("StartSandbox: %w", err)
	}
	if _, err := api.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: podID}); err != nil {
		return fmt.Errorf("PingSandbox: %w", err)
	}
	return nil
}

// noService reports whether the shim has no sandbox service. Before ttrpc 1.1 that was
// NotFound, which a service itself may answer, too.
func noService(err error) bool {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return false
	}
	code, message := s.GRPCStatus().Code(), s.GRPCStatus().Message()
	return code == codes.Unimplemented || code == codes.NotFound && strings.HasPrefix(message, "service ")
}

func sandboxAlive(c *harness.Case) {
	_, api, client := sandbox(c)
	defer client.Close()
	if api == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), prompt)
	defer cancel()
	p, err := api.Platform(ctx, &sandboxapi.PlatformRequest{SandboxID: podID})
	c.Must(err, "Platform")
	if os, arch := p.GetPlatform().GetOS(), p.GetPlatform().GetArchitecture(); os != runtime.GOOS || arch != runtime.GOARCH {
		c.Errorf("Platform: %s/%s, want %s/%s", os, arch, runtime.GOOS, runtime.GOARCH)
	}
	returned := make(chan error, 1)
	long, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, err := api.WaitSandbox(long, &sandboxapi.WaitSandboxRequest{SandboxID: podID})
		returned <- err
	}()
	c.Never(time.Second, "WaitSandbox returns while the pod's container runs", func() bool { return len(returned) > 0 })
}

func sandboxStopped(c *harness.Case) {
	b, api, client := sandbox(c)
	defer client.Close()
	if api == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := api.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: podID, TimeoutSecs: 5})
	c.Logf("StopSandbox: %v", err) // a shim that ends with its pod may not answer
	if wait.Until(5*time.Second, func() bool { return !procfs.Alive(b.InitPid) }) {
		return
	}
	if what := notStopped(err, procfs.Alive(b.Shim.Pid)); what != "" {
		c.Errorf("the pod's container runs, and %s", what)
		return
	}
	answers(c, b, b.ID)
}

// notStopped says what is wrong if a pod's container runs after StopSandbox, if anything.
func notStopped(err error, shimLives bool) string {
	switch {
	case err == nil:
		return "StopSandbox succeeded"
	case !shimLives:
		return "its shim has ended"
	}
	return ""
}
