"""The store: an S3 bucket or a directory, behind the same methods.

    minio, directory                 any S3 server; a directory with the guarantees of a bucket
    minio_reader, directory_reader   the same two for readers: listings, reads, links, removal
    lifecycle, retention             expiry by the server; expiry by us, in a directory
    trusted_clock                    whether the wall clock can be trusted for expiry
    s3credentials, s3errors, s3wire  credentials, verdicts on errors, the HTTP session

`delivery` and `retrieval` declare the protocols that they need of it; `app` passes the store.
"""
