#!/usr/bin/env bash
# Reports whether the Redis nodes of a lock can vote, and whether there is a quorum: a thin
# call of lockkeeper health.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: check.sh [HOST:PORT ...]

Checks each node with a real vote, because PING answers on nodes that refuse every
lock. Without arguments the nodes are those of REDIS_NODES (comma-separated), by
default localhost:6379,localhost:6380,localhost:6381, as compose.yml publishes them.

It runs lockkeeper from PATH or, in a checkout with Go, builds it, or else, for the nodes
of compose.yml, runs it in a container. For more than a line a node: lockkeeper health.

Environment:
  REDIS_NODES          host:port,host:port,...; [address]:port for IPv6; rediss://host:port
  REDISCLI_AUTH        the nodes' password (never an argument)
  REDIS_USER           the user, if not the default one
  REDIS_CHECK_TIMEOUT  seconds for all nodes together, 1 to 60 (3)
  LOCKKEEPER_TLS_CA, LOCKKEEPER_TLS_CERT, LOCKKEEPER_TLS_KEY
                       files for TLS: the authority; the client's certificate and key

Exit status: 0 all nodes can vote; 1 not all, but a quorum; 2 no quorum;
3 nothing was checked (bad input, no lockkeeper).
USAGE
}

fail() {
  echo "check.sh: $1" >&2
  exit 3
}

case ${1-} in -h | --help) usage; exit 0 ;; esac
case "$*" in
*@*) fail "an argument has a user or password in it (not shown), which others on this machine can see: use REDISCLI_AUTH" ;;
esac
[ -z "${REDISCLI_OPTS-}" ] || fail "REDISCLI_OPTS is set, and redis-cli is not used any more: TLS is rediss:// with LOCKKEEPER_TLS_CA (see --help)"
for node in "$@"; do
  case $node in
  *:*) ;;
  *) fail "'$node' has no port, want HOST:PORT, such as ${node:-localhost}:6379" ;;
  esac
done
timeout=${REDIS_CHECK_TIMEOUT:-3}
[[ $timeout =~ ^([1-9]|[1-5][0-9]|60)$ ]] ||
  fail "REDIS_CHECK_TIMEOUT is '$timeout', want 1 to 60 (seconds)"
composed=
if [ $# -gt 0 ]; then
  REDIS_NODES=$(IFS=,; echo "$*")
elif [ -z "${REDIS_NODES+set}" ]; then
  composed=yes
  REDIS_NODES=localhost:6379,localhost:6380,localhost:6381
fi
export REDIS_NODES
[ -n "$REDIS_NODES" ] || fail "REDIS_NODES is empty, want host:port,host:port,..."
unset LOCKKEEPER_URL # it would come first

check=(health --output lines --timeout "${timeout}s")
here=$(cd "$(dirname "$0")" && pwd)
if command -v lockkeeper >/dev/null; then
  exec lockkeeper "${check[@]}"
fi
if command -v go >/dev/null && [ -d "$here/../cmd/lockkeeper" ]; then
  # Not go run, whose exit status is always 1.
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  go build -C "$here/.." -o "$work/lockkeeper" ./cmd/lockkeeper >&2 || fail "lockkeeper could not be built"
  status=0
  "$work/lockkeeper" "${check[@]}" || status=$?
  exit $status
fi
if [ -n "$composed" ] && command -v docker >/dev/null; then
  exec docker compose -f "$here/compose.yml" --profile check run --rm --build --no-TTY check "${check[@]}"
fi
fail "lockkeeper not found: go install github.com/tonsurance/lockkeeper/cmd/lockkeeper@latest"
