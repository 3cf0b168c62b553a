#!/usr/bin/env bash
# Installs pg, Node's driver for Postgres, by npm once into the user's cache, and prints where it
# is: for an example. Nothing of it is compiled.
set -euo pipefail
version=${1:-v8.23.1}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/node-pg-$version
if [ ! -d "$at" ]; then
  echo "installing pg $version, once, into $at" >&2
  mkdir -p "$(dirname "$at")"
  trap 'rm -rf "$at.part"' EXIT
  rm -rf "$at.part"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$at.part" "pg@${version#v}" >&2
  mv "$at.part" "$at"
fi
echo "$at"
