#!/bin/sh
# minio server /data …: JuiceFS's gateway, which is MinIO's server and IAM code. It reads MINIO_ROOT_USER and
# MINIO_ROOT_PASSWORD, has no console, and encrypts nothing.
set -eu
[ -e /data/meta.db ] ||
  juicefs format --storage file --bucket /data/objects/ sqlite3:///data/meta.db motion --trash-days 0 >/dev/null 2>&1
exec juicefs --no-agent gateway --multi-buckets --keep-etag --object-tag --object-meta --no-banner --no-usage-report \
  --log /tmp/gateway.log --cache-dir /tmp/cache sqlite3:///data/meta.db 0.0.0.0:9000
