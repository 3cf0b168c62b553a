#!/usr/bin/env bash
# Fetches other versions of Redis and Valkey than the system's, for make compat: from
# Debian's suites, by apt, which checks their signatures. They are unpacked into a
# directory of their own, with the C library and the loader that they were built for, and
# nothing of the system changes: apt works on lists, a cache and a status of its own.
#
#   install-other-servers.sh          fetches what is missing; reports what can't be had
#   install-other-servers.sh --list   prints the servers that are there, one path a line
#
# LOCKKEEPER_SERVERS is the directory, by default ~/.cache/lockkeeper/servers;
# LOCKKEEPER_DEBIAN_MIRROR is where to fetch from, by default http://deb.debian.org/debian.
set -euo pipefail

dir=${LOCKKEEPER_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper/servers}
mirror=${LOCKKEEPER_DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Name, program, the package with the program, its suite, and that of its libraries.
servers='
redis-8.0   redis-server   redis-tools   trixie              trixie
valkey-8.0  valkey-server  valkey-tools  bookworm-backports  bookworm
valkey-8.1  valkey-server  valkey-tools  trixie              trixie
valkey-9.1  valkey-server  valkey-tools  forky               forky
'

say() { echo "install-other-servers: $*"; }

runs() { "$dir/bin/$1" --version >/dev/null 2>&1; }

# private_apt runs an apt program on state of its own under $1. Of the system's settings
# it takes only how to reach the network.
private_apt() {
  local root=$1 program=$2
  shift 2
  "$program" -qq -o Dir::State="$root/state" -o Dir::State::status="$root/status" -o Dir::Cache="$root/cache" \
    -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=- \
    -o Dir::Etc::preferences=- -o Dir::Etc::parts="$root/conf" -o APT::Sandbox::User=root "$@"
}

# fetch NAME PROGRAM PACKAGE SUITE LIBRARIES
fetch() (
  name=$1 program=$2 package=$3 suite=$4 libraries=$5
  tmp=$(mktemp -d "$dir/tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  mkdir -p "$tmp"/{state/lists/partial,cache/archives/partial,conf,root}
  : >"$tmp/status"
  apt-config dump | grep '^Acquire::[a-z].* ' >"$tmp/conf/network" || true
  for s in $(printf '%s\n' "$suite" "$libraries" | sort -u); do
    echo "deb [signed-by=$keyring] $mirror $s main"
  done >"$tmp/sources.list"
  private_apt "$tmp" apt-get update
  private_apt "$tmp" apt-get install -y --download-only --no-install-recommends -t "$suite" "$package"
  for deb in "$tmp"/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$tmp/root"
  done
  rm -rf "$dir/$name"
  mkdir -p "$dir/$name" "$dir/bin"
  cd "$tmp/root"
  # The program, which looks at its own name, the libraries, and no more.
  cp -L "$(find . -name "$program" -path '*/bin/*' | head -1)" "$dir/$name/$program" 2>/dev/null ||
    cp -L "$(find . -name "${program/server/check-rdb}" -path '*/bin/*' | head -1)" "$dir/$name/$program"
  find . \( -name '*.so' -o -name '*.so.*' \) -path '*/lib*' ! -path '*/gconv/*' -exec cp -L {} "$dir/$name/" \;
  loader=$(basename "$(ls "$dir/$name"/ld-linux*.so.* | head -1)")
  cat >"$dir/bin/$name.new" <<END
#!/bin/sh
exec "$dir/$name/$loader" --library-path "$dir/$name" "$dir/$name/$program" "\$@"
END
  chmod +x "$dir/bin/$name.new"
  "$dir/bin/$name.new" --version >/dev/null
  mv "$dir/bin/$name.new" "$dir/bin/$name"
)

if [ "${1:-}" = --list ]; then
  while read -r name _; do
    [ -z "$name" ] || ! runs "$name" || echo "$dir/bin/$name"
  done <<<"$servers"
  exit 0
fi

for tool in apt-get dpkg-deb; do
  command -v $tool >/dev/null || { say "no $tool here: give make compat your servers, SERVERS='/path/to/one ...'" >&2; exit 1; }
done
[ -e $keyring ] || { say "$keyring is missing, without which nothing can be checked: apt-get install debian-archive-keyring" >&2; exit 1; }
mkdir -p "$dir"
there=0
while read -r name program package suite libraries; do
  [ -n "$name" ] || continue
  if ! runs "$name"; then
    log="$dir/$name.log"
    if ! fetch "$name" "$program" "$package" "$suite" "$libraries" >"$log" 2>&1 || ! runs "$name"; then
      say "$name ($package of $suite) is not to be had here: $(grep -E '^(E|W):|rror' "$log" | head -1 || true) (all of it is in $log)" >&2
      rm -rf "${dir:?}/$name" "$dir/bin/$name" "$dir/bin/$name.new"
      continue
    fi
    rm -f "$log"
  fi
  say "$name: $("$dir/bin/$name" --version)"
  there=$((there + 1))
done <<<"$servers"
say "Redis 6.2 is not in Debian: build it, and give it to make compat by SERVERS=/path/to/redis-server"
[ $there -gt 0 ]
