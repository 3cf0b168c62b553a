#!/usr/bin/env bash
# Installs a package by npm, once, into the user's cache, and prints where it is:
#
#   install-npm.sh dynalite v4.0.0       stands in for DynamoDB; its tables are in memory
#   install-npm.sh pg v8.23.1 node-pg    Node's driver for Postgres, under another name there
#
# Nothing of it is compiled.
set -euo pipefail
package=$1 version=$2 name=${3:-$1}
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/$name-$version
if [ ! -d "$at" ]; then
  echo "installing $package $version, once, into $at" >&2
  mkdir -p "$(dirname "$at")"
  trap 'rm -rf "$at.part"' EXIT
  rm -rf "$at.part"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$at.part" "$package@${version#v}" >&2
  mv "$at.part" "$at"
fi
echo "$at"
