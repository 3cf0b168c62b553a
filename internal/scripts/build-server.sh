#!/usr/bin/env bash
# Builds a server of its Go module once, into the user's cache, and prints where it is:
#
#   build-server.sh etcd v3.6.16 go.etcd.io/etcd/server/v3
#
# Not by go install, which refuses modules that replace others.
set -euo pipefail
name=$1 version=$2 package=$3
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/$name-$version
if [ ! -x "$at" ]; then
  echo "building $name $version, once, into $at" >&2
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  mkdir -p "$(dirname "$at")"
  cd "$dir"
  export GOWORK=off GOFLAGS=-mod=mod
  go mod init build >/dev/null 2>&1
  go get "$package@$version" >/dev/null 2>&1
  go build -o "$at.$$" "$package"
  mv "$at.$$" "$at"
fi
echo "$at"
