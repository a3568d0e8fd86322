#!/bin/sh
# slim.sh PREFIX: removes from an environment what a running service never reads: symbols for debuggers, packages'
# own tests, and files for compilers and type checkers. Saves 100 MB. The libraries are then tested, since `strip`
# has broken libraries that were patched before: a broken one ends the build.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
find lib -name '*.so*' -type f -exec strip --strip-unneeded {} +
bin/python "$here/compact.py" lib
find lib -type d \( -name tests -o -name SelfTest -o -path '*/numpy/f2py' \) -prune -exec rm -rf {} +
find lib -type f \( -name '*.pyi' -o -name '*.a' -o -name '*.h' -o -name '*.pxd' -o -name '*.pyx' \) -delete
# Of all of AWS's services, what reads a secret, with the services that its credentials may come from.
find lib/python*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
  ! -name secretsmanager ! -name sso ! -name sso-oidc ! -name sts ! -name signin -exec rm -rf {} +
rm -rf lib/python*/site-packages/boto3/examples
rm -f .gitignore bin/f2py bin/[Aa]ctivate*

bin/python - <<'PYTHON'
import ctypes, io, pathlib, sys

for library in sorted(pathlib.Path(sys.prefix, "lib").rglob("*.so*")):
    if ".abi3." not in library.name and ".cpython-" not in library.name:
        ctypes.CDLL(str(library))

import av, cv2, numpy, uvloop  # noqa: F401

import boto3

for service in ("secretsmanager", "sts"):
    boto3.client(service, region_name="eu-west-1")
picture = numpy.zeros((240, 320, 3), numpy.uint8)
picture[60:180, 80:240] = 200
assert numpy.linalg.svd(picture[..., 0].astype(float))[1].max() > 0
assert cv2.imdecode(cv2.imencode(".jpg", picture)[1], cv2.IMREAD_COLOR).shape == picture.shape
file = io.BytesIO()
with av.open(file, "w", "mpegts") as clip:
    stream = clip.add_stream("libx264", rate=5)
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    for _ in range(5):
        clip.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
    clip.mux(stream.encode())
file.seek(0)
with av.open(file) as clip:
    assert sum(1 for _ in clip.decode(video=0)) == 5
PYTHON
