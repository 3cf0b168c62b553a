#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: redis-server and redis-cli, and
# a C compiler for the race detector. Leaves alone what is there, and starts nothing.
set -euo pipefail

say() { echo "install-servers: $*"; }

server=${LOCKKEEPER_REDIS_SERVER:-}
missing=()
if [ -n "$server" ]; then
  command -v "$server" >/dev/null || { say "LOCKKEEPER_REDIS_SERVER is '$server', which can't be run" >&2; exit 1; }
elif ! command -v redis-server >/dev/null && ! command -v valkey-server >/dev/null; then
  missing+=(redis-server)
fi
command -v redis-cli >/dev/null || missing+=(redis-cli)
command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null || missing+=(cc)
if [ ${#missing[@]} -eq 0 ]; then
  say "${server:-$(command -v redis-server || command -v valkey-server)} and redis-cli are there"
  exit 0
fi

if command -v apt-get >/dev/null; then
  packages=()
  for m in "${missing[@]}"; do
    case $m in
    redis-server) packages+=(redis-server) ;;
    redis-cli) packages+=(redis-tools) ;;
    cc) packages+=(gcc libc6-dev) ;;
    esac
  done
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { say "${missing[*]} missing, and installing it needs root or sudo" >&2; exit 1; }
    root=(sudo)
  fi
  say "${missing[*]} missing: apt-get install ${packages[*]}"
  # The package would start a server of its own on port 6379, now and at each boot. The
  # tests want the program only.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap '${root[@]+"${root[@]}"} rm -f '$policy EXIT
    printf '#!/bin/sh\nexit 101\n' | ${root[@]+"${root[@]}"} tee $policy >/dev/null
    ${root[@]+"${root[@]}"} chmod +x $policy
  fi
  ${root[@]+"${root[@]}"} apt-get update -qq
  ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}"
  case " ${packages[*]} " in
  *" redis-server "*)
    if [ -d /run/systemd/system ]; then
      ${root[@]+"${root[@]}"} systemctl disable --quiet redis-server
    fi
    ;;
  esac
elif command -v brew >/dev/null; then
  case " ${missing[*]} " in
  *" cc "*) say "no C compiler, which the race detector needs: xcode-select --install" >&2; exit 1 ;;
  esac
  say "${missing[*]} missing: brew install redis (no service is started)"
  brew install redis
else
  say "${missing[*]} missing, and there is neither apt-get nor brew: install them by hand" >&2
  exit 1
fi

for program in redis-server redis-cli; do
  case " ${missing[*]} " in
  *" $program "*) command -v $program >/dev/null || { say "$program is still missing" >&2; exit 1; } ;;
  esac
done
say "done"
