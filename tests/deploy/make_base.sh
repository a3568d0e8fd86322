#!/usr/bin/env bash
# make_base.sh ARCHIVE PYTHON: a stand-in for python:3.13-slim-bookworm, for machines without a container registry.
#
# Debian's minimal system with this machine's Python 3.13 (the prefix PYTHON) at /usr/local: the layout of the
# official image, its users, no compiled modules, its pip. Takes about two minutes, so the archive is kept.
set -euo pipefail
archive=$1
python=$2
[ -s "$archive" ] && exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
libraries=libssl3,libsqlite3-0,libffi8,libreadline8,libncursesw6,libbz2-1.0,liblzma5,libuuid1,libexpat1,zlib1g,libcrypt1
mmdebstrap --quiet --variant=minbase --include="ca-certificates,netbase,tzdata,$libraries" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  bookworm "$root" 1>&2

# Without what the official image leaves out too.
mkdir -p "$root/usr/local/bin" "$root/usr/local/lib"
tar -C "$python" --exclude='*/test' --exclude='*/idlelib' --exclude='*/tkinter' --exclude='*_tkinter*' \
  --exclude='*.a' --exclude='__pycache__' --exclude='lib/python3.13/site-packages/*' --exclude='*/config-3.13*' \
  -cf - bin/python3.13 lib/libpython3.13.so.1.0 lib/libpython3.13.so lib/python3.13 include |
  tar -C "$root/usr/local" -xf -
ln -sf python3.13 "$root/usr/local/bin/python3"
ln -sf python3.13 "$root/usr/local/bin/python"
mkdir -p "$root/usr/local/lib/python3.13/site-packages"
# The authorities that this machine trusts, so that pip reaches what it reaches here.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
chroot "$root" ldconfig
chroot "$root" /usr/local/bin/python -m ensurepip >/dev/null 2>&1
ln -sf pip3 "$root/usr/local/bin/pip"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
find "$root/usr/local" -name __pycache__ -prune -exec rm -rf {} +

mkdir -p "$(dirname "$archive")"
tar -C "$root" --exclude='./dev/*' -c . | gzip -1 >"$archive.part"
mv "$archive.part" "$archive"
