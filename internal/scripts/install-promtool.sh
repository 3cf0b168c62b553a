#!/usr/bin/env bash
# Puts promtool, which checks the alert rules, into the user's cache, and prints where it is.
# It is taken out of Debian's package prometheus, which would install and start a server.
set -euo pipefail
at=${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/promtool
if command -v promtool; then
  exit
fi
if [ ! -x "$at" ]; then
  echo "fetching promtool, once, into $at" >&2
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  mkdir -p "$(dirname "$at")"
  # As root, apt would write as a user of its own, who may not do so here.
  (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download prometheus >&2 && dpkg-deb --extract prometheus_*.deb .)
  mv "$dir/usr/bin/promtool" "$at.$$"
  mv "$at.$$" "$at"
fi
echo "$at"
