#!/usr/bin/env bash
# Tells whether the Redis nodes of a lock can vote, and whether there is a quorum.
# Needs bash (3.2 or later) and redis-cli (or valkey-cli), and changes nothing but a
# key of its own that lives for a second.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: check.sh [HOST:PORT ...]

Checks each node with a real write, because PING answers on nodes that refuse every
lock. Without arguments the nodes are those of REDIS_NODES (comma-separated), by
default localhost:6379,localhost:6380,localhost:6381.

Environment:
  REDIS_NODES          host:port,host:port,...; [address]:port for IPv6
  REDISCLI_AUTH        the nodes' password (redis-cli reads it; never an argument)
  REDIS_USER           the user, if not the default one
  REDIS_CHECK_TIMEOUT  seconds for all nodes together, 1 to 60 (3)
  REDISCLI_OPTS        more options for redis-cli, such as: --tls --cacert ca.pem

Exit status: 0 all nodes can vote; 1 not all, but a quorum; 2 no quorum;
3 nothing was checked (bad input, no redis-cli).
USAGE
}

fail() {
  echo "check.sh: $1" >&2
  exit 3
}

case ${1-} in -h | --help) usage; exit 0 ;; esac

# The node list, checked before anything is sent.
case "$* ${REDIS_NODES-}" in
*@*) fail "a node has a user or password in it (not shown): want host:port, and the password in REDISCLI_AUTH" ;;
esac
if [ $# -eq 0 ]; then
  list=${REDIS_NODES-localhost:6379,localhost:6380,localhost:6381}
  [ -n "$list" ] || fail "REDIS_NODES is empty, want host:port,host:port,..."
  case $list in *[[:space:]]*) fail "REDIS_NODES is '$list', want host:port,host:port,... without spaces" ;; esac
  rest=$list,
  while [ -n "$rest" ]; do
    set -- "$@" "${rest%%,*}"
    rest=${rest#*,}
  done
fi
seen=' '
for node in "$@"; do
  [[ $node =~ ^([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})$ ]] ||
    fail "node '$node' is not host:port (see --help)"
  port=$((10#${BASH_REMATCH[2]}))
  if [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then fail "node '$node': port $port is not 1 to 65535"; fi
  case $seen in *" $node "*) fail "node '$node' is listed twice: each node has one vote" ;; esac
  seen="$seen$node "
done
timeout=${REDIS_CHECK_TIMEOUT:-3}
[[ $timeout =~ ^([1-9]|[1-5][0-9]|60)$ ]] ||
  fail "REDIS_CHECK_TIMEOUT is '$timeout', want 1 to 60 (seconds)"

cli=$(command -v redis-cli || command -v valkey-cli) ||
  fail "redis-cli not found: install it (Debian: apt-get install redis-tools; macOS: brew install redis)"

work=$(mktemp -d)
pids=()
cleanup() {
  kill -9 ${pids[@]+"${pids[@]}"} 2>/dev/null || :
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 3' INT TERM

rule='======================================='
printf '%s\nChecking %d Redis nodes...\n%s\n\n' "$rule" $# "$rule"

# All at once, each in a process that can be ended: a node that hangs keeps redis-cli
# waiting for ever. -c follows a formed cluster, which is one vote.
# The name can not be a lock's or a counter's, and ACL rules for locks allow it.
options=(-c)
[ -z "${REDIS_USER-}" ] || options+=(--user "$REDIS_USER")
# shellcheck disable=SC2206  # several options in one variable, on purpose
options+=(${REDISCLI_OPTS-})
i=0
for node in "$@"; do
  host=${node%:*}
  host=${host#\[}
  "$cli" "${options[@]}" -h "${host%\]}" -p "${node##*:}" \
    SET 'lockkeeper:fence:{health}' probe PX 1000 >"$work/$i.out" 2>"$work/$i.err" </dev/null &
  pids+=($!)
  i=$((i + 1))
done
running() {
  local pid
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then return 0; fi
  done
  return 1
}
ticks=$((timeout * 20))
while [ $ticks -gt 0 ] && running; do
  sleep 0.05
  ticks=$((ticks - 1))
done

# why ERROR: what an operator should know about an error reply.
why() {
  case $1 in
  *NOAUTH*) echo "asks for a password: set REDISCLI_AUTH" ;;
  *WRONGPASS*) echo "refuses the password in REDISCLI_AUTH" ;;
  CLUSTERDOWN*) echo "answers, but refuses writes: cluster mode is on and the cluster is not formed or not whole" ;;
  READONLY*) echo "answers, but refuses writes: it is a read-only replica" ;;
  OOM*) echo "answers, but refuses writes: its memory is full" ;;
  MISCONF*) echo "answers, but refuses writes: it can't save to disk" ;;
  NOREPLICAS*) echo "answers, but refuses writes: too few replicas are in sync" ;;
  LOADING*) echo "is still loading its data" ;;
  *) echo "answers, but refuses writes" ;;
  esac
}

healthy=0
i=0
for node in "$@"; do
  printf 'Checking Redis node %s... ' "$node"
  out=$(cat "$work/$i.out")
  err=$(cat "$work/$i.err")
  if kill -0 "${pids[$i]}" 2>/dev/null; then
    echo "DOWN (no answer within ${timeout}s: it hangs, or the network does)"
    kill -9 "${pids[$i]}" 2>/dev/null || :
  elif [ "${out%%[[:space:]]*}" = OK ]; then
    echo UP
    healthy=$((healthy + 1))
  elif [ -n "$out" ]; then
    # A refused password is told on stderr, before the NOAUTH that follows from it.
    case $err in *WRONGPASS*) reason=$(why WRONGPASS) ;; *) reason=$(why "$out") ;; esac
    echo "DOWN ($reason; ${out%%$'\n'*})"
  else
    err=${err%%$'\n'*}
    echo "DOWN (${err:-redis-cli failed without a word})"
  fi
  wait "${pids[$i]}" 2>/dev/null || :
  i=$((i + 1))
done

quorum=$(($# / 2 + 1))
printf '\n%s\nHealth Check Summary\n%s\nHealthy nodes: %d / %d\n' "$rule" "$rule" "$healthy" $#
if [ "$healthy" -eq $# ]; then
  printf 'Quorum: yes (%d needed)\nStatus: ALL NODES HEALTHY\n\nReady for distributed locking!\n' "$quorum"
elif [ "$healthy" -ge "$quorum" ]; then
  printf 'Quorum: yes (%d needed)\nStatus: DEGRADED: locks work, and losing %d more would stop them\n' \
    "$quorum" $((healthy - quorum + 1))
  exit 1
else
  printf 'Quorum: NO (%d needed)\nStatus: NO QUORUM: no lock can be taken or renewed\n' "$quorum"
  exit 2
fi
