// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"containerd-shim.v1/proc"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/runtime/linux/runctypes"
	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Service is the ttrpc service: it decodes, calls the Supervisor and encodes.
type Service struct {
	sup *Supervisor
}

var _ api.ShimService = (*Service)(nil)

// NewService returns the service of sup's container.
func NewService(sup *Supervisor) *Service { return &Service{sup} }

var empty = &emptypb.Empty{}

// Create makes the container.
func (s *Service) Create(ctx context.Context, r *api.CreateTaskRequest) (*api.CreateTaskResponse, error) {
	c, err := initConfig(r)
	if err != nil {
		return nil, err
	}
	pid, err := s.sup.Create(ctx, c)
	if err != nil {
		return nil, err
	}
	return &api.CreateTaskResponse{Pid: uint32(pid)}, nil
}

// initConfig checks and translates a create request.
func initConfig(r *api.CreateTaskRequest) (c proc.InitConfig, err error) {
	if err := proc.CheckID(r.ID); err != nil {
		return c, err
	}
	if err := proc.CheckBundle(r.Bundle); err != nil {
		return c, err
	}
	var o runctypes.CreateOptions
	if err := decodeOptions(r.Options, &o); err != nil {
		return c, err
	}
	c = proc.InitConfig{
		ID: r.ID, Bundle: r.Bundle, Runtime: r.Runtime, Checkpoint: r.Checkpoint,
		Stdio:       proc.Stdio{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
		NoPivotRoot: o.NoPivotRoot, NoNewKeyring: o.NoNewKeyring,
		IoUID: o.IoUid, IoGID: o.IoGid, CriuWorkPath: o.CriuWorkPath,
	}
	for _, m := range r.Rootfs {
		c.Rootfs = append(c.Rootfs, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return c, nil
}

// Start runs what Create or Exec has prepared.
func (s *Service) Start(ctx context.Context, r *api.StartRequest) (*api.StartResponse, error) {
	pid, err := s.sup.Start(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return &api.StartResponse{ID: r.ID, Pid: uint32(pid)}, nil
}

// Delete removes the container.
func (s *Service) Delete(ctx context.Context, _ *emptypb.Empty) (*api.DeleteResponse, error) {
	return deleteResponse(s.sup.Delete(ctx))
}

// DeleteProcess removes an exec.
func (s *Service) DeleteProcess(ctx context.Context, r *api.DeleteProcessRequest) (*api.DeleteResponse, error) {
	return deleteResponse(s.sup.DeleteExec(ctx, r.ID))
}

func deleteResponse(snap proc.Snapshot, err error) (*api.DeleteResponse, error) {
	if err != nil {
		return nil, err
	}
	return &api.DeleteResponse{
		Pid:        uint32(snap.Pid),
		ExitStatus: uint32(snap.Exit.Status),
		ExitedAt:   wireTime(snap.Exit.At),
	}, nil
}

// wireTime sends the zero time explicitly: containerd 1.7 reads an absent one
// as 1970.
func wireTime(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// Exec adds a process.
func (s *Service) Exec(_ context.Context, r *api.ExecProcessRequest) (*emptypb.Empty, error) {
	stdio := proc.Stdio{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}
	return empty, s.sup.Exec(r.ID, stdio, r.Spec.GetValue())
}

// ResizePty sets a terminal's size.
func (s *Service) ResizePty(_ context.Context, r *api.ResizePtyRequest) (*emptypb.Empty, error) {
	if r.ID == "" {
		return nil, fmt.Errorf("id not provided: %w", errdefs.ErrInvalidArgument)
	}
	p, err := s.sup.find(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, p.Resize(r.Width, r.Height)
}

// CloseIO ends the input.
func (s *Service) CloseIO(_ context.Context, r *api.CloseIORequest) (*emptypb.Empty, error) {
	p, err := s.sup.find(r.ID)
	if err != nil {
		return nil, err
	}
	p.CloseStdin()
	return empty, nil
}

// State answers from memory.
func (s *Service) State(_ context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	snap, bundle, err := s.sup.State(r.ID)
	if err != nil {
		return nil, err
	}
	return &api.StateResponse{
		ID: snap.ID, Bundle: bundle, Pid: uint32(snap.Pid), Status: wireStatus(snap.Phase),
		Stdin: snap.Stdio.Stdin, Stdout: snap.Stdio.Stdout, Stderr: snap.Stdio.Stderr,
		Terminal:   snap.Stdio.Terminal,
		ExitStatus: uint32(snap.Exit.Status), ExitedAt: wireTime(snap.Exit.At),
	}, nil
}

func wireStatus(p proc.Phase) task.Status {
	switch p {
	case proc.Created:
		return task.Status_CREATED
	case proc.Running:
		return task.Status_RUNNING
	case proc.Pausing:
		return task.Status_PAUSING
	case proc.Paused:
		return task.Status_PAUSED
	case proc.Stopped, proc.Deleted:
		return task.Status_STOPPED
	}
	return task.Status_UNKNOWN
}

// Pause freezes the container.
func (s *Service) Pause(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	return empty, s.sup.Pause(ctx)
}

// Resume thaws it.
func (s *Service) Resume(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	return empty, s.sup.Resume(ctx)
}

// Kill signals an exec, or the container, which an empty id also means.
func (s *Service) Kill(ctx context.Context, r *api.KillRequest) (*emptypb.Empty, error) {
	return empty, s.sup.Kill(ctx, r.ID, r.Signal, r.All)
}

// ListPids lists the container's processes, and says which are execs.
func (s *Service) ListPids(ctx context.Context, _ *api.ListPidsRequest) (*api.ListPidsResponse, error) {
	pids, names, err := s.sup.Pids(ctx)
	if err != nil {
		return nil, err
	}
	resp := &api.ListPidsResponse{}
	for _, pid := range pids {
		info := &task.ProcessInfo{Pid: uint32(pid)}
		if id, ok := names[pid]; ok {
			if info.Info, err = encodeAny(&runctypes.ProcessDetails{ExecID: id}); err != nil {
				return nil, err
			}
		}
		resp.Processes = append(resp.Processes, info)
	}
	return resp, nil
}

// Checkpoint writes an image of the container.
func (s *Service) Checkpoint(ctx context.Context, r *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	var o runctypes.CheckpointOptions
	if err := decodeOptions(r.Options, &o); err != nil {
		return nil, err
	}
	return empty, s.sup.Checkpoint(ctx, proc.CheckpointOptions{
		Path: r.Path, WorkPath: o.WorkPath, Exit: o.Exit, OpenTCP: o.OpenTcp,
		ExternalUnixSockets: o.ExternalUnixSockets, Terminal: o.Terminal,
		FileLocks: o.FileLocks, EmptyNamespaces: o.EmptyNamespaces,
	})
}

// ShimInfo returns the shim's pid; the daemon kills it after Delete.
func (s *Service) ShimInfo(context.Context, *emptypb.Empty) (*api.ShimInfoResponse, error) {
	return &api.ShimInfoResponse{ShimPid: uint32(os.Getpid())}, nil
}

// Update changes the container's resources, given in JSON.
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	var res specs.LinuxResources
	if err := json.Unmarshal(r.Resources.GetValue(), &res); err != nil {
		return nil, fmt.Errorf("resources: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return empty, s.sup.Update(ctx, &res)
}

// Wait answers once the process has exited.
func (s *Service) Wait(ctx context.Context, r *api.WaitRequest) (*api.WaitResponse, error) {
	p, err := s.sup.find(r.ID)
	if err != nil {
		return nil, err
	}
	e, err := p.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return &api.WaitResponse{ExitStatus: uint32(e.Status), ExitedAt: wireTime(e.At)}, nil
}
