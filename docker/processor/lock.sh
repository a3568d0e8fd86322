#!/bin/sh
# Renews the image's package lists: every package, exactly, with the hashes of its files.
#   docker/processor/lock.sh             keeps the versions that still fit
#   docker/processor/lock.sh --upgrade   takes the newest
set -eu
cd "$(dirname "$0")"

# The hashes are those of every file of a version, so one list serves all platforms; each is resolved, so that a
# package that one of them lacks is noticed here. OpenCV's headless build takes the other's place: the same
# module without the window system.
for platform in aarch64 x86_64; do
  printf 'opencv-python-headless\n' |
    uv pip compile --quiet ../../pyproject.toml - --extra fleet --extra aws --excludes excludes.txt \
      --output-file requirements.txt \
      --python-version 3.13 --python-platform "$platform-manylinux_2_36" --only-binary :all: \
      --generate-hashes --no-annotate --custom-compile-command docker/processor/lock.sh "$@"
done
printf 'hatchling\n' |
  uv pip compile --quiet - --output-file build-requirements.txt --python-version 3.13 --only-binary :all: \
    --generate-hashes --no-annotate --custom-compile-command docker/processor/lock.sh "$@"
