// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"net"
	"runtime"
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
		Asserts:  "where the shim has it: after StopSandbox the pod's container has ended, or the shim still watches it",
		Run:      sandboxStopped},
}

// podID is the sandbox's id.
const podID = "pod"

// sandbox connects to the shim's sandbox service, and makes and starts the sandbox. It
// returns nil if the shim has no such service. The caller closes the client.
func sandbox(c *harness.Case, b *harness.Fixture) (api sandboxapi.TTRPCSandboxService, client *ttrpc.Client) {
	conn, err := net.Dial("unix", b.Shim.Address)
	c.Must(err, "connect")
	client = ttrpc.NewClient(conn)
	api = sandboxapi.NewTTRPCSandboxClient(client)
	ctx, cancel := context.WithTimeout(context.Background(), prompt)
	defer cancel()
	_, err = api.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: podID})
	if code := status.Code(err); code == codes.Unimplemented || code == codes.NotFound {
		c.Logf("it has no sandbox API: %v", err)
		return nil, client
	}
	c.Must(err, "PingSandbox")
	_, err = api.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: podID, BundlePath: b.Bundle})
	c.Must(err, "CreateSandbox")
	_, err = api.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: podID})
	c.Must(err, "StartSandbox")
	return api, client
}

func sandboxAlive(c *harness.Case) {
	b := c.Fixture(inPod(harness.Options{}))
	api, client := sandbox(c, b)
	defer client.Close()
	b.Up()
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
	b := c.Fixture(inPod(harness.Options{}))
	api, client := sandbox(c, b)
	defer client.Close()
	b.Up()
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
	if !procfs.Alive(b.Shim.Pid) {
		c.Errorf("the shim has ended and left the pod's container running")
		return
	}
	answers(c, b, b.ID)
}
