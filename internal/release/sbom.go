package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"golang.org/x/mod/module"
)

// part is a module that is linked, with its checksum as go.sum has it.
type part struct{ path, version, sum string }

// partsOf reads what is linked out of the binary itself: the command first, the standard
// library last.
func partsOf(binary string) ([]part, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	parts := []part{{info.Main.Path, info.Main.Version, info.Main.Sum}}
	for _, d := range info.Deps {
		if d.Replace != nil || d.Version == "" || d.Version == "(devel)" {
			return nil, fmt.Errorf("%s is linked, but no published version of it", d.Path)
		}
		parts = append(parts, part{d.Path, d.Version, d.Sum})
	}
	return append(parts, part{"stdlib", info.GoVersion, ""}), nil
}

var notInID = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// writeSBOM lists in SPDX 2.3 what one binary is made of.
func (r *release) writeSBOM(name, subject string, parts []part) error {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: subject,
		DocumentNamespace: "https://" + root + "/spdx/" + subject + "-" + r.commit,
		CreationInfo: &spdx.CreationInfo{
			Created:  r.when.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "lockkeeper-internal-release"}},
		},
	}
	for i, p := range parts {
		id := common.ElementID("Package-" + notInID.ReplaceAllString(p.path, "-"))
		pkg := &spdx.Package{
			PackageName: p.path, PackageSPDXIdentifier: id, PackageVersion: p.version,
			PackageDownloadLocation: "NOASSERTION", FilesAnalyzed: false, IsFilesAnalyzedTagPresent: true,
			PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
			PackageExternalReferences: []*spdx.PackageExternalReference{{
				Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + p.path + "@" + p.version,
			}},
		}
		if strings.HasPrefix(p.path, root) {
			pkg.PackageLicenseDeclared = "MIT"
		}
		switch p.path {
		case "stdlib":
			pkg.PackageDownloadLocation = "https://go.dev/dl/" + p.version + ".src.tar.gz"
			pkg.PackageExternalReferences[0].Locator = "pkg:golang/stdlib@" + strings.TrimPrefix(p.version, "go")
		default:
			escaped, err := module.EscapePath(p.path)
			if err != nil {
				return err
			}
			pkg.PackageDownloadLocation = "https://proxy.golang.org/" + escaped + "/@v/" + p.version + ".zip"
		}
		if p.sum != "" {
			// Not the checksum of a file but of a list of them, so no checksum of SPDX.
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.sum, "h1:"))
			if err != nil {
				return fmt.Errorf("sum of %s: %w", p.path, err)
			}
			pkg.PackageComment = "go.sum: " + p.sum + " (dirhash SHA-256 " + hex.EncodeToString(raw) + ")"
		}
		doc.Packages = append(doc.Packages, pkg)
		from, kind := common.MakeDocElementID("", "DOCUMENT"), "DESCRIBES"
		if i > 0 {
			from, kind = common.MakeDocElementID("", string(doc.Packages[0].PackageSPDXIdentifier)), "DEPENDS_ON"
		}
		doc.Relationships = append(doc.Relationships, &spdx.Relationship{RefA: from, RefB: common.MakeDocElementID("", string(id)), Relationship: kind})
	}
	var out bytes.Buffer
	err := json.Write(doc, &out, json.Indent(" "))
	return r.write(name, out.Bytes(), err)
}

var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licenseTexts are the licenses of all that is linked but lockkeeper itself, most of which
// ask to be given along.
func (r *release) licenseTexts(parts []part) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("lockkeeper is made of these, each under the license below its name.\n")
	for _, p := range parts {
		if strings.HasPrefix(p.path, root) {
			continue
		}
		dir, err := r.sourceOf(p)
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(dir) // sorted
		if err != nil {
			return nil, err
		}
		found := false
		for _, e := range entries {
			if !e.Type().IsRegular() || !licenseName.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			fmt.Fprintf(&out, "\n%s\n%s %s: %s\n\n%s\n", strings.Repeat("=", 78), p.path, p.version, e.Name(), bytes.TrimSpace(text))
		}
		if !found {
			return nil, fmt.Errorf("%s %s has no license file: may it be given away?", p.path, p.version)
		}
	}
	return out.Bytes(), nil
}

// sourceOf is where a part's source is: in this run's module cache, or Go's own.
func (r *release) sourceOf(p part) (string, error) {
	if p.path == "stdlib" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		return strings.TrimSpace(string(out)), err
	}
	escaped, err := module.EscapePath(p.path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(p.version)
	return filepath.Join(r.work, "cache", escaped+"@"+version), err
}
