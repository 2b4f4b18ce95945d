// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

// ImageName is the reference under which ctr and docker know the image.
const ImageName = "localhost/busybox:test"

// Image is a busybox image in the two forms that the daemons import.
type Image struct {
	// Rootfs is a plain tar of the root file system, for `docker import`.
	Rootfs []byte
	// OCI is an OCI image layout as a tar, for `ctr image import`.
	OCI []byte
}

// BuildImage makes the image from the host's statically linked busybox. It uses no
// network, and the same busybox gives the same bytes.
func BuildImage() (*Image, error) {
	bin, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("build image: %w (Debian package busybox-static)", err)
	}
	code, err := os.ReadFile(bin)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	list, err := exec.Command(bin, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("build image: busybox --list: %w", err)
	}
	rootfs, err := rootfsTar(code, strings.Fields(string(list)))
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	oci, err := ociTar(rootfs)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	return &Image{Rootfs: rootfs, OCI: oci}, nil
}

// archive is a tar archive in the making. It keeps the first error.
type archive struct {
	buf bytes.Buffer
	w   *tar.Writer
	err error
}

func newArchive() *archive {
	a := &archive{}
	a.w = tar.NewWriter(&a.buf)
	return a
}

func (a *archive) add(h tar.Header, body []byte) {
	if a.err != nil {
		return
	}
	h.Size = int64(len(body))
	h.ModTime = time.Unix(0, 0)
	h.Format = tar.FormatPAX
	if a.err = a.w.WriteHeader(&h); a.err == nil {
		_, a.err = a.w.Write(body)
	}
}

func (a *archive) dir(name string, mode int64) {
	a.add(tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}, nil)
}

func (a *archive) file(name string, mode int64, body []byte) {
	a.add(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}, body)
}

func (a *archive) bytes() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	if err := a.w.Close(); err != nil {
		return nil, err
	}
	return a.buf.Bytes(), nil
}

func rootfsTar(busybox []byte, applets []string) ([]byte, error) {
	a := newArchive()
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "sys"} {
		a.dir(d, 0o755)
	}
	a.dir("tmp", 0o1777)
	a.file("bin/busybox", 0o755, busybox)
	for _, name := range applets {
		if name != "busybox" {
			a.add(tar.Header{Name: path.Join("bin", name), Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	a.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"))
	a.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	return a.bytes()
}

// descriptor has the fields of an OCI content descriptor that an import reads.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func ociTar(layer []byte) ([]byte, error) {
	a := newArchive()
	blob := func(mediaType string, body []byte) descriptor {
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:])
		a.file("blobs/sha256/"+hash, 0o644, body)
		return descriptor{MediaType: mediaType, Digest: "sha256:" + hash, Size: len(body)}
	}
	object := func(mediaType string, v any) descriptor {
		body, err := json.Marshal(v)
		if err != nil && a.err == nil {
			a.err = err
		}
		return blob(mediaType, body)
	}
	l := blob("application/vnd.oci.image.layer.v1.tar", layer)
	config := object("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{l.Digest}},
	})
	manifest := object("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "config": config, "layers": []descriptor{l},
	})
	// The second is for ctr up to 1.3, which is told the name before the colon.
	_, tag, _ := strings.Cut(ImageName, ":")
	manifest.Annotations = map[string]string{"io.containerd.image.name": ImageName, "org.opencontainers.image.ref.name": tag}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return nil, err
	}
	a.file("index.json", 0o644, index)
	a.file("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return a.bytes()
}

// importTo feeds data to the standard input of cmd.
func importTo(cmd *exec.Cmd, data []byte) error {
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
