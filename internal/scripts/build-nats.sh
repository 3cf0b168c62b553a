#!/usr/bin/env bash
# Builds the NATS server of its Go module once, into the user's cache, and prints where it is.
set -euo pipefail
version=${1:-v2.15.3}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/nats-server-$version
if [ ! -x "$at" ]; then
  echo "building nats-server $version, once, into $at" >&2
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  mkdir -p "$(dirname "$at")"
  GOWORK=off GOBIN=$dir go install "github.com/nats-io/nats-server/v2@$version"
  mv "$dir/nats-server" "$at.$$"
  mv "$at.$$" "$at"
fi
echo "$at"
