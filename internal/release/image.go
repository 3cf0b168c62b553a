package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// imageLayer is the file system of the image on one architecture.
type imageLayer struct {
	arch  string
	files []file
}

// user is nobody's on the host, and the same number that others use who are not root.
const user = "65532"

// imageFiles is all that the image has: the program, and what it looks for in a system.
func imageFiles(program file, texts []file) []file {
	program.name = "usr/bin/lockkeeper"
	files := []file{
		program,
		{name: "etc/ssl/certs/ca-certificates.crt", data: authorities()}, // for TLS to stores with public certificates
		{name: "etc/passwd", data: []byte("root:x:0:0:root:/:/sbin/nologin\nlockkeeper:x:" + user + ":" + user + ":lockkeeper:/:/sbin/nologin\n")},
		{name: "etc/group", data: []byte("root:x:0:\nlockkeeper:x:" + user + ":\n")},
		{name: "tmp", dir: true, mode: 0o777 | fs.ModeSticky}, // the default store's directory is made in it
	}
	return append(files, under("usr/share/doc/lockkeeper", texts)...)
}

// authorities are Mozilla's, of the version that go.mod pins, without those that are trusted
// under conditions that a file of certificates can't say.
func authorities() []byte {
	var out bytes.Buffer
	for c := range bundle.Roots() {
		if c.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate})
		}
	}
	return out.Bytes()
}

// descriptor names a blob by its content.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// blobs are the files of an image layout, https://github.com/opencontainers/image-spec.
type blobs struct{ files []file }

func (b *blobs) add(mediaType string, data []byte) descriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	b.files = append(b.files, file{name: "blobs/sha256/" + sum, data: data})
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(data)}
}

func (b *blobs) addJSON(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	return b.add(mediaType, data), err
}

// writeImage writes an image for all architectures as an archive of an OCI layout: skopeo,
// podman load, crane push and docker load (25 and later) take it.
func (r *release) writeImage() error {
	labels := map[string]string{
		"org.opencontainers.image.title": "lockkeeper", "org.opencontainers.image.description": title, "org.opencontainers.image.version": r.version,
		"org.opencontainers.image.revision": r.commit, "org.opencontainers.image.source": "https://" + root, "org.opencontainers.image.licenses": "MIT",
	}
	var b blobs
	var manifests []descriptor
	for _, l := range r.images {
		d, err := b.addImage(r, l, labels)
		if err != nil {
			return err
		}
		manifests = append(manifests, d)
	}
	index, err := b.addJSON("application/vnd.oci.image.index.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests, "annotations": labels,
	})
	if err != nil {
		return err
	}
	index.Annotations = map[string]string{"org.opencontainers.image.ref.name": r.number(), "io.containerd.image.name": "lockkeeper:" + r.number()}
	top, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []descriptor{index}})
	if err != nil {
		return err
	}
	files := append(b.files, file{name: "index.json", data: top}, file{name: "oci-layout", data: []byte(`{"imageLayoutVersion":"1.0.0"}`)})
	data, err := tarball(r.when, "", files)
	return r.write("lockkeeper_"+r.number()+"_image.tar", data, err)
}

// addImage adds the layer, the configuration and the manifest of one architecture.
func (b *blobs) addImage(r *release, l imageLayer, labels map[string]string) (descriptor, error) {
	plain, err := tarball(r.when, "", l.files)
	if err != nil {
		return descriptor{}, err
	}
	packed, err := gzipped(plain)
	if err != nil {
		return descriptor{}, err
	}
	layer := b.add("application/vnd.oci.image.layer.v1.tar+gzip", packed)
	config, err := b.addJSON("application/vnd.oci.image.config.v1+json", map[string]any{
		"created": r.when, "architecture": l.arch, "os": "linux",
		// By number: an orchestrator can see that it is not root.
		"config":  map[string]any{"User": user + ":" + user, "Entrypoint": []string{"/usr/bin/lockkeeper"}, "Env": []string{"PATH=/usr/bin"}, "WorkingDir": "/", "Labels": labels},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(plain))}},
		"history": []map[string]any{{"created": r.when, "created_by": "lockkeeper's internal/release"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := b.addJSON("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []descriptor{layer},
	})
	d.Platform = map[string]string{"os": "linux", "architecture": l.arch}
	return d, err
}
