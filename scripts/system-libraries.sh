#!/usr/bin/env bash
# Installs the system libraries that Qt's X11 platform, OpenGL in software and Xvfb need, where
# they are missing. Only on Linux with apt: elsewhere, and for those who are not root, it says
# what is missing and goes on, because the library and the command line work without them.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0

# Looked up by library, not by package: the package names change from release to release.
libraries=(
  libEGL.so.1:libegl1
  libGL.so.1:libgl1
  libX11-xcb.so.1:libx11-xcb1
  libdbus-1.so.3:libdbus-1-3
  libfontconfig.so.1:libfontconfig1
  libglib-2.0.so.0:libglib2.0-0
  libgssapi_krb5.so.2:libgssapi-krb5-2
  libxcb-cursor.so.0:libxcb-cursor0
  libxcb-icccm.so.4:libxcb-icccm4
  libxcb-image.so.0:libxcb-image0
  libxcb-keysyms.so.1:libxcb-keysyms1
  libxcb-randr.so.0:libxcb-randr0
  libxcb-render-util.so.0:libxcb-render-util0
  libxcb-shape.so.0:libxcb-shape0
  libxcb-sync.so.1:libxcb-sync1
  libxcb-xfixes.so.0:libxcb-xfixes0
  libxcb-xkb.so.1:libxcb-xkb1
  libxkbcommon-x11.so.0:libxkbcommon-x11-0
)
programs=(Xvfb:xvfb xauth:xauth)

PATH=$PATH:/sbin:/usr/sbin
known=$(ldconfig -p 2>/dev/null || true)
missing=()
for entry in "${libraries[@]}"; do
  grep -qF "${entry%%:*} " <<<"$known" || missing+=("${entry#*:}")
done
for entry in "${programs[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
# Mesa's software renderer: Xvfb has no GLX without it; text in a window needs any font.
compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null ||
  compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null ||
  compgen -G '/usr/lib/*/libgallium*.so' >/dev/null || missing+=(libgl1-mesa-dri)
[ -d /usr/share/fonts/truetype ] || [ -d /usr/share/fonts/TTF ] || missing+=(fonts-dejavu-core)

[ ${#missing[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  echo "installing system libraries: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null; }
else
  echo "napari's window needs system libraries that were not found; on Debian or Ubuntu:" >&2
  echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
fi
