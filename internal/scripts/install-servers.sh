#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Redis, Postgres, PgBouncer, MariaDB, Node,
# and a C compiler for the race detector, by apt-get or brew; etcd, NATS and versitygw are built
# of their Go modules, once, into the user's cache; dynalite and pg come by npm, where that is
# there, and promtool by apt-get.
# Leaves alone what is there, and starts nothing.
set -euo pipefail
cd "$(dirname "$0")"

say() { echo "install-servers: $*"; }

# has says whether a program is there; Debian keeps Postgres' own off PATH.
has() {
  case $1 in
  redis-server) [ -n "${LOCKKEEPER_REDIS_SERVER:-}" ] || command -v redis-server || command -v valkey-server ;;
  postgres) command -v postgres || ls /usr/lib/postgresql/*/bin/postgres ;;
  cc) command -v "${CC:-cc}" || command -v gcc ;;
  *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

if [ -n "${LOCKKEEPER_REDIS_SERVER:-}" ] && ! command -v "$LOCKKEEPER_REDIS_SERVER" >/dev/null; then
  say "LOCKKEEPER_REDIS_SERVER is '$LOCKKEEPER_REDIS_SERVER', which can't be run" >&2
  exit 1
fi
programs=(redis-server redis-cli postgres pgbouncer mariadbd cc node)
missing=()
for program in "${programs[@]}"; do
  has "$program" || missing+=("$program")
done

install_with_apt() {
  local packages=() root=() policy=/usr/sbin/policy-rc.d
  for program in "${missing[@]}"; do
    case $program in
    redis-cli) packages+=(redis-tools) ;;
    postgres) packages+=(postgresql) ;;
    mariadbd) packages+=(mariadb-server) ;;
    node) packages+=(nodejs) ;;
    cc) packages+=(gcc libc6-dev) ;;
    *) packages+=("$program") ;;
    esac
  done
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { say "${missing[*]} missing, and installing it needs root or sudo" >&2; exit 1; }
    root=(sudo)
  fi
  say "${missing[*]} missing: apt-get install ${packages[*]}"
  # The packages would start servers of their own, now and at each boot. The tests want
  # the programs only.
  if [ ! -e $policy ]; then
    trap '${root[@]+"${root[@]}"} rm -f '$policy EXIT
    printf '#!/bin/sh\nexit 101\n' | ${root[@]+"${root[@]}"} tee $policy >/dev/null
    ${root[@]+"${root[@]}"} chmod +x $policy
  fi
  ${root[@]+"${root[@]}"} apt-get update -qq
  ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}"
  if [ -d /run/systemd/system ]; then
    for service in redis-server postgresql pgbouncer mariadb; do
      case " ${packages[*]} " in
      *" $service"*) ${root[@]+"${root[@]}"} systemctl disable --quiet "$service" ;;
      esac
    done
  fi
}

install_with_brew() {
  local formulas=()
  for program in "${missing[@]}"; do
    case $program in
    cc) say "no C compiler, which the race detector needs: xcode-select --install" >&2; exit 1 ;;
    redis-server | redis-cli) formulas+=(redis) ;;
    postgres) formulas+=(postgresql) ;;
    mariadbd) formulas+=(mariadb) ;;
    *) formulas+=("$program") ;;
    esac
  done
  say "${missing[*]} missing: brew install ${formulas[*]} (no service is started)"
  brew install "${formulas[@]}"
}

if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null; then
    install_with_apt
  elif command -v brew >/dev/null; then
    install_with_brew
  else
    say "${missing[*]} missing, and there is neither apt-get nor brew: install them by hand" >&2
    exit 1
  fi
  for program in "${missing[@]}"; do
    has "$program" || { say "$program is still missing" >&2; exit 1; }
  done
fi
built=$(./build-server.sh etcd v3.6.16 go.etcd.io/etcd/server/v3 &&
  ./build-server.sh nats-server v2.15.3 github.com/nats-io/nats-server/v2 &&
  ./build-server.sh versitygw v1.8.0 github.com/versity/versitygw/cmd/versitygw) # S3 over a directory
if command -v npm >/dev/null && command -v node >/dev/null; then
  built+=" $(./install-npm.sh dynalite v4.0.0) $(./install-npm.sh pg v8.23.1 node-pg)" # of examples
fi
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
  built+=" $(./install-promtool.sh)"
fi
say "${programs[*]} are there, and" $built
