#!/usr/bin/env bash
# Builds the versitygw server (S3 over a directory) of its Go module once, into the user's cache,
# and prints where it is.
set -euo pipefail
version=${1:-v1.8.0}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/versitygw-$version
if [ ! -x "$at" ]; then
  echo "building versitygw $version, once, into $at" >&2
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  mkdir -p "$(dirname "$at")"
  cd "$dir"
  export GOWORK=off GOFLAGS=-mod=mod
  go mod init build >/dev/null 2>&1
  go get "github.com/versity/versitygw/cmd/versitygw@$version" >/dev/null 2>&1
  go build -o "$at.$$" github.com/versity/versitygw/cmd/versitygw
  mv "$at.$$" "$at"
fi
echo "$at"
