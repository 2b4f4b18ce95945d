// SPDX-License-Identifier: Apache-2.0

package client

import taskv2 "github.com/containerd/containerd/api/runtime/task/v2"

// Connect is the RPC Connect of a v2 shim.
func (c Client) Connect(container string) (*taskv2.ConnectResponse, error) {
	return ask[taskv2.ConnectResponse](c, "Connect", &taskv2.ConnectRequest{ID: container})
}

// Stats is the RPC Stats of a v2 shim.
func (c Client) Stats(container string) (*taskv2.StatsResponse, error) {
	return ask[taskv2.StatsResponse](c, "Stats", &taskv2.StatsRequest{ID: container})
}

// Shutdown is the RPC Shutdown of a v2 shim, which ends it unless it has containers.
func (c Client) Shutdown(container string) error {
	return do(c, "Shutdown", &taskv2.ShutdownRequest{ID: container})
}
