// SPDX-License-Identifier: Apache-2.0

// Package npd tests the manifest of the DaemonSet against the types of the
// Kubernetes API.
package npd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// manifest decodes the DaemonSet. Strict: a key that the API does not know, or
// that stands in the wrong place, is an error; the API server would drop it.
func manifest(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	text, err := os.ReadFile("../daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(text, &set); err != nil {
		t.Fatal(err)
	}
	return &set
}

func TestManifestIsADaemonSet(t *testing.T) {
	set := manifest(t)
	if set.APIVersion != "apps/v1" || set.Kind != "DaemonSet" || set.Name == "" {
		t.Errorf("got %s %s %q", set.APIVersion, set.Kind, set.Name)
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || selector.Empty() {
		t.Fatalf("selector %v, %v", selector, err)
	}
	for key, value := range set.Spec.Selector.MatchLabels {
		if set.Spec.Template.Labels[key] != value {
			t.Errorf("the pod lacks the label %s=%s that selects it", key, value)
		}
	}
	pod := set.Spec.Template.Spec
	var volumes, mounts []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
		if v.HostPath == nil || v.HostPath.Type == nil || *v.HostPath.Type != corev1.HostPathDirectoryOrCreate || !filepath.IsAbs(v.HostPath.Path) {
			t.Errorf("volume %s is not a directory of the host that is made when it is missing: %+v", v.Name, v.HostPath)
		}
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts = append(mounts, m.Name)
	}
	if !slices.Equal(volumes, mounts) {
		t.Errorf("volumes %q, mounted %q", volumes, mounts)
	}
}

// What a look at shims must not have. That what is left suffices, and that each
// of it is needed, is tested in cmd/shimctl.
func TestManifestHasFewRights(t *testing.T) {
	pod := manifest(t).Spec.Template.Spec
	if pod.HostIPC || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || len(pod.InitContainers) > 0 || len(pod.Containers) != 1 {
		t.Errorf("got hostIPC %v, token %v, %d containers", pod.HostIPC, pod.AutomountServiceAccountToken, len(pod.Containers))
	}
	c := pod.Containers[0]
	s := c.SecurityContext
	if s == nil || s.Capabilities == nil {
		t.Fatal("no security context")
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.Privileged != nil && *s.Privileged ||
		s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		t.Errorf("got %+v", s)
	}
	if len(c.Ports) > 0 || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("got ports %v, limits %v", c.Ports, c.Resources.Limits)
	}
	if line := strings.Join(append(c.Command, c.Args...), " "); strings.Contains(line, "repair") {
		t.Errorf("it repairs: %s", line)
	}
}
