#!/usr/bin/env bash
# Runs a command on the display at hand, or under Xvfb where there is none.
# (Windows and macOS always have one.)
set -euo pipefail

if [ "$(uname -s)" != Linux ] || [ -n "${DISPLAY:-}" ] || [ -n "${WAYLAND_DISPLAY:-}" ]; then
  exec "$@"
fi
if ! command -v xvfb-run >/dev/null; then
  echo "no display and no xvfb-run: run scripts/system-libraries.sh to see what to install" >&2
  exit 1
fi
exec xvfb-run --auto-servernum --server-args="-screen 0 1920x1200x24 +extension GLX" "$@"
