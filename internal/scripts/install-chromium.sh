#!/usr/bin/env bash
# Installs Chromium, for make browser, where none is found: by apt-get or brew.
set -euo pipefail

for program in "${LOCKKEEPER_CHROMIUM:-}" chromium chromium-browser google-chrome chrome; do
  if [ -n "$program" ] && command -v "$program" >/dev/null; then
    echo "install-chromium: $program is there"
    exit 0
  fi
done
if command -v apt-get >/dev/null; then
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install-chromium: chromium is missing, and installing it needs root or sudo" >&2; exit 1; }
    root=(sudo)
  fi
  echo "install-chromium: chromium is missing: apt-get install chromium"
  ${root[@]+"${root[@]}"} apt-get update -qq
  ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
elif command -v brew >/dev/null; then
  echo "install-chromium: chromium is missing: brew install --cask chromium"
  brew install --cask chromium
else
  echo "install-chromium: chromium is missing, and there is neither apt-get nor brew: install it by hand, or name a browser in LOCKKEEPER_CHROMIUM" >&2
  exit 1
fi
