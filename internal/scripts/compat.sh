#!/usr/bin/env bash
# Runs redlock's tests with real servers on each of the server programs given, or on those
# that install-other-servers.sh fetches. GO is the go command.
set -uo pipefail
cd "$(dirname "$0")/../.."

if [ $# -eq 0 ]; then
  ./internal/scripts/install-other-servers.sh || exit 1
  mapfile -t servers < <(./internal/scripts/install-other-servers.sh --list)
  set -- "${servers[@]}"
fi
result=()
failed=0
for server in "$@"; do
  version=$("$server" --version) || { echo "compat: $server can't be run" >&2; exit 1; }
  echo "== $version"
  if LOCKKEEPER_REDIS_SERVER=$server LOCKKEEPER_REQUIRE_SERVERS=1 \
    "${GO:-go}" test -race -count=1 -timeout=15m -run 'Real|Fails?Over|TheUserMay' ./redlock ./redlock/internal/script ./internal/redistest ./internal/readme; then
    result+=("passed: $version")
  else
    result+=("FAILED: $version")
    failed=1
  fi
done
echo "== compat"
printf '%s\n' "${result[@]}"
exit $failed
