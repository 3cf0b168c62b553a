package main

import (
	"bytes"
	"crypto/md5" // the format's
	"fmt"
	"path"
	"strings"
	"text/template"
	"time"
)

// maintainer is who answers for the packages.
const maintainer = "The lockkeeper authors <security@lockkeeper.invalid>"

// writeDeb writes a Debian package: an ar archive of a version, a control archive and the
// files. See deb(5) and deb-control(5). It has no scripts, and depends on nothing.
func (r *release) writeDeb(arch string, program file, texts []file) error {
	files, err := r.debFiles(program, texts)
	if err != nil {
		return err
	}
	data, err := tarball(r.when, "./", files)
	if err != nil {
		return err
	}
	if data, err = gzipped(data); err != nil {
		return err
	}
	var sums bytes.Buffer
	size := 0
	for _, f := range withParents(files) {
		if f.dir {
			size++
			continue
		}
		size += (len(f.data) + 1023) / 1024
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.name)
	}
	var control bytes.Buffer
	if err := debControl.Execute(&control, map[string]any{
		"Version": debVersion(r.version), "Arch": arch, "Size": size, "Maintainer": maintainer, "Home": "https://" + root, "Title": strings.ToLower(title[:1]) + title[1:],
	}); err != nil {
		return err
	}
	about, err := tarball(r.when, "./", []file{{name: "control", data: control.Bytes()}, {name: "md5sums", data: sums.Bytes()}})
	if err != nil {
		return err
	}
	if about, err = gzipped(about); err != nil {
		return err
	}
	name := fmt.Sprintf("lockkeeper_%s_%s.deb", debVersion(r.version), arch)
	return r.write(name, ar(r.when, []file{
		{name: "debian-binary", data: []byte("2.0\n")}, {name: "control.tar.gz", data: about}, {name: "data.tar.gz", data: data},
	}), nil)
}

// debVersion is the version as Debian orders them: a candidate comes before the version.
func debVersion(version string) string {
	number, candidate, ok := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	if !ok {
		return number
	}
	return number + "~" + strings.ReplaceAll(candidate, "-", ".")
}

var debControl = template.Must(template.New("control").Parse(`Package: lockkeeper
Version: {{.Version}}
Architecture: {{.Arch}}
Maintainer: {{.Maintainer}}
Installed-Size: {{.Size}}
Section: utils
Priority: optional
Homepage: {{.Home}}
Description: {{.Title}}
 Runs any program under a lock: start it several times, on one machine or on
 many, and one copy works at a time. When it stops, crashes, hangs or is cut
 off, another goes on, and the first is ended before that.
 .
 Locks are kept in files, Redis or Valkey (one server, or a quorum of them),
 SQLite, MySQL, Postgres, etcd, NATS, S3 or Kubernetes. For operators it shows
 who holds what, and whether the store can decide.
`))

// debFiles lays the files out as Debian does.
func (r *release) debFiles(program file, texts []file) ([]file, error) {
	const docs = "usr/share/doc/lockkeeper/"
	program.name = "usr/bin/lockkeeper"
	files := []file{program}
	for _, f := range texts {
		f.name = docs + f.name
		if path.Base(f.name) == "LICENSE" {
			f.name = docs + "copyright"
		}
		files = append(files, f)
	}
	// Static, so that it runs in every root; lintian asks for a reason.
	files = append(files, file{name: "usr/share/lintian/overrides/lockkeeper", data: []byte("# Go links everything into one file: it runs in any root, in a container without a system, too.\nlockkeeper: statically-linked-binary [usr/bin/lockkeeper]\n")})
	changes, err := gzipped(fmt.Appendf(nil, "lockkeeper (%s) unstable; urgency=medium\n\n  * What is new: https://%s/blob/main/CHANGELOG.md\n\n -- %s  %s\n",
		debVersion(r.version), root, maintainer, r.when.Format(time.RFC1123Z)))
	if err != nil {
		return nil, err
	}
	files = append(files, file{name: docs + "changelog.gz", data: changes})
	for _, f := range r.docs {
		switch base := path.Base(f.name); {
		case strings.HasSuffix(base, ".1"):
			data, err := gzipped(f.data)
			if err != nil {
				return nil, err
			}
			files = append(files, file{name: "usr/share/man/man1/" + base + ".gz", data: data})
		case strings.HasSuffix(base, ".bash"):
			files = append(files, file{name: "usr/share/bash-completion/completions/lockkeeper", data: f.data})
		case base == "_lockkeeper":
			files = append(files, file{name: "usr/share/zsh/vendor-completions/_lockkeeper", data: f.data})
		case strings.HasSuffix(base, ".fish"):
			files = append(files, file{name: "usr/share/fish/vendor_completions.d/lockkeeper.fish", data: f.data})
		}
	}
	return files, nil
}

// ar is an archive as ar(5) has it, in the form that dpkg reads.
func ar(when time.Time, files []file) []byte {
	out := []byte("!<arch>\n")
	for _, f := range files {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", f.name, when.Unix(), 0, 0, 0o100644, len(f.data))
		out = append(out, f.data...)
		if len(f.data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}
