#!/usr/bin/env bash
# Installs dynalite, which stands in for DynamoDB, by npm once into the user's cache, and prints
# where it is. Nothing of it is compiled: its tables are in memory.
set -euo pipefail
version=${1:-v4.0.0}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/dynalite-$version
if [ ! -d "$at" ]; then
  echo "installing dynalite $version, once, into $at" >&2
  mkdir -p "$(dirname "$at")"
  trap 'rm -rf "$at.part"' EXIT
  rm -rf "$at.part"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$at.part" "dynalite@${version#v}" >&2
  mv "$at.part" "$at"
fi
echo "$at"
