// SPDX-License-Identifier: Apache-2.0

// Package npd tests the manifest of the DaemonSet against the types of the
// Kubernetes API.
package npd

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// manifest decodes the DaemonSet. Strict: a key that the API does not know, or
// that stands in the wrong place, is an error; the API server would drop it.
func manifest(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	return decode(t, read(t, "../daemonset.yaml"))
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decode(t *testing.T, text []byte) *appsv1.DaemonSet {
	t.Helper()
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(text, &set); err != nil {
		t.Fatal(err)
	}
	return &set
}

// The patch is applied as the API server does it. It adds one container with no more
// rights than the other has, its volume, which the other may read, and what lifts AppArmor
// before Kubernetes 1.30. It changes nothing else.
func TestUpgradePatch(t *testing.T) {
	text := read(t, "../daemonset-upgrade.yaml")
	decode(t, text) // strict
	patch, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	before, err := yaml.YAMLToJSON(read(t, "../daemonset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, appsv1.DaemonSet{})
	if err != nil {
		t.Fatal(err)
	}
	plain, patched := manifest(t), decode(t, after)
	pod := &patched.Spec.Template.Spec
	if len(pod.InitContainers) != 1 || patched.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue() != 1 {
		t.Fatalf("got %d init containers, %+v", len(pod.InitContainers), patched.Spec.UpdateStrategy)
	}
	added, other := pod.InitContainers[0], plain.Spec.Template.Spec.Containers[0]
	if !reflect.DeepEqual(added.SecurityContext, other.SecurityContext) || added.Image != other.Image || added.Resources.Limits.Memory().IsZero() {
		t.Errorf("got %+v, want what the other has, %+v", added, other)
	}
	for _, m := range added.VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.HostPath != nil }) {
			t.Errorf("no volume %s of the host", m.Name)
		}
	}
	const tally = "/var/lib/shimctl"
	exporter := &pod.Containers[0]
	if !slices.ContainsFunc(exporter.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == tally && m.ReadOnly && m.Name == added.VolumeMounts[0].Name
	}) {
		t.Errorf("the tally is not exported: %+v", exporter.VolumeMounts)
	}
	if s := pod.SecurityContext; s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("got %+v, want the runtime's seccomp profile", s)
	}
	annotation := "container.apparmor.security.beta.kubernetes.io/" + added.Name
	if patched.Spec.Template.Annotations[annotation] != "unconfined" {
		t.Errorf("no annotation %s", annotation)
	}
	if s := pod.TerminationGracePeriodSeconds; s == nil || *s != 180 {
		t.Errorf("got %v seconds to end an exchange in, want 180", s)
	}
	delete(patched.Spec.Template.Annotations, annotation)
	patched.Spec.UpdateStrategy, pod.InitContainers = plain.Spec.UpdateStrategy, nil
	pod.TerminationGracePeriodSeconds = nil
	if !reflect.DeepEqual(plain, patched) {
		t.Errorf("it changes something else:\n%+v\n%+v", plain, patched)
	}
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
	if s := pod.SecurityContext; s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("got %+v, want the runtime's seccomp profile", s)
	}
	c := pod.Containers[0]
	s := c.SecurityContext
	if s == nil || s.Capabilities == nil {
		t.Fatal("no security context")
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.Privileged != nil && *s.Privileged ||
		s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
		s.SeccompProfile != nil { // it would come before the pod's
		t.Errorf("got %+v", s)
	}
	if len(c.Ports) > 0 || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("got ports %v, limits %v", c.Ports, c.Resources.Limits)
	}
	if line := strings.Join(append(c.Command, c.Args...), " "); strings.Contains(line, "repair") {
		t.Errorf("it repairs: %s", line)
	}
}
