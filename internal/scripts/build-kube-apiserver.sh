#!/usr/bin/env bash
# Builds Kubernetes' API server of its Go module once, into the user's cache, and prints where
# it is. It takes about ten minutes on two cores, and 3 GB of Go's caches.
set -euo pipefail
version=${1:-v1.37.2}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/kube-apiserver-$version
if [ ! -x "$at" ]; then
  echo "building kube-apiserver $version, once, into $at: this takes minutes" >&2
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  mkdir -p "$(dirname "$at")"
  cd "$dir"
  export GOWORK=off GOFLAGS=-mod=mod
  staging=v0.${version#v1.}
  printf 'module build\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes %s\n' "$version" >go.mod
  # Its own go.mod has its staging modules in its source tree. As modules they are published
  # with a version of their own.
  go mod download "k8s.io/kubernetes@$version"
  sed -n "s#^\s*\(k8s.io/[^ ]*\) => ./staging/.*#replace \1 => \1 $staging#p" \
    "$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')" >>go.mod
  printf 'package build\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n' >build.go
  go mod tidy -e >/dev/null 2>&1
  stamp="-X k8s.io/component-base/version.gitVersion=$version"
  nice go build -p 1 -trimpath -ldflags "-s -w $stamp" -o "$at.$$" k8s.io/kubernetes/cmd/kube-apiserver
  mv "$at.$$" "$at"
fi
echo "$at"
