#!/bin/sh
# Prepares a MinIO server for async_motion: the bucket, the uploader, and a reader if it is given a secret key.
# It can run again at any time. Secrets go to mc by standard input: a command line can be seen by every process.
set -eu

bucket=${MINIO_BUCKET:-motion}
uploader=${MINIO_UPLOADER_ACCESS_KEY:-uploader}
reader=${MINIO_READER_ACCESS_KEY:-reader}
scratch=${TMPDIR:-/tmp}

uploader_secret=${MINIO_UPLOADER_SECRET_KEY:-}
if [ -n "${MINIO_UPLOADER_SECRET_KEY_FILE:-}" ]; then
  uploader_secret=$(cat "$MINIO_UPLOADER_SECRET_KEY_FILE")
fi

# user NAME SECRET POLICY ACTIONS RESOURCES: makes the user, or gives it this secret; it may do this and no more.
user() {
  if [ "$1" = "$MINIO_ROOT_USER" ]; then
    echo "$1 is the root user: give $3 a name of its own" >&2
    exit 1
  fi
  printf '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[%s],"Resource":[%s]}]}\n' \
    "$4" "$5" >"$scratch/$3.json"
  mc admin policy create server "$3" "$scratch/$3.json"
  printf '%s\n%s\n' "$1" "$2" | mc admin user add server
  # A policy that is attached already is an error to some versions of mc, and none to others.
  mc admin policy attach server "$3" --user "$1" >/dev/null 2>&1 || mc admin user info server "$1"
}

printf '%s\n%s\n' "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" | mc alias set server "${MINIO_URL:-http://minio:9000}" >/dev/null
mc mb --ignore-existing "server/$bucket"

if [ -z "$uploader_secret" ] && ! mc admin user info server "$uploader" >/dev/null 2>&1; then
  uploader_secret=$(head -c 18 /dev/urandom | base64)
  echo "A secret key was made for $uploader; it is shown this once. For config/processor/variables.yaml:"
  printf 'minio:\n  endpoint: localhost:9000\n  access_key: %s\n  secret_key: %s\n' "$uploader" "$uploader_secret"
fi
if [ -n "$uploader_secret" ]; then
  user "$uploader" "$uploader_secret" async-motion-uploader \
    '"s3:PutObject","s3:AbortMultipartUpload"' "\"arn:aws:s3:::$bucket/*\""
fi
if [ -n "${MINIO_READER_SECRET_KEY:-}" ]; then
  user "$reader" "$MINIO_READER_SECRET_KEY" async-motion-reader \
    '"s3:GetObject","s3:ListBucket","s3:GetBucketLocation"' "\"arn:aws:s3:::$bucket\",\"arn:aws:s3:::$bucket/*\""
fi
echo "The bucket $bucket is ready; $uploader may put frames into it."
