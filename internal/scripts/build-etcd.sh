#!/usr/bin/env bash
# Builds the etcd server of its Go module once, into the user's cache, and prints where it is.
set -euo pipefail
version=${1:-v3.6.16}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/etcd-$version
if [ ! -x "$at" ]; then
  echo "building etcd $version, once, into $at" >&2
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  mkdir -p "$(dirname "$at")"
  cd "$dir"
  export GOWORK=off GOFLAGS=-mod=mod
  go mod init build >/dev/null 2>&1
  go get "go.etcd.io/etcd/server/v3@$version" >/dev/null 2>&1
  go build -o "$at.$$" go.etcd.io/etcd/server/v3
  mv "$at.$$" "$at"
fi
echo "$at"
