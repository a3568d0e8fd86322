"""Check the settings of the S3 store: bucket, prefix, region, encryption, path style."""

from __future__ import annotations

import re

from async_motion.core.options import PathStyle
from async_motion.settings.values import check_flag, check_text, shown


def check_bucket(value: object) -> str:
    text = check_text(value)
    if (
        not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text)
        or ".." in text
        or re.fullmatch(r"[\d.]+", text)
    ):
        raise ValueError(
            f"{shown(text)} is not a bucket's name, expected 3 to 63 of a-z, 0-9, - and ., "
            "with a letter or digit at both ends"
        )
    return text


def check_prefix(value: object) -> str:
    text = check_text(value)
    parts = text.split("/")
    if text.startswith("/") or "" in parts[:-1] or {".", ".."} & set(parts) or "\\" in text:
        raise ValueError(f"{shown(text)} is not a prefix, expected the beginning of a key such as cameras/")
    if len(text.encode()) > 256:
        raise ValueError("longer than 256 bytes, expected the beginning of a key such as cameras/")
    return text


def check_region(value: object) -> str:
    text = check_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(f"{shown(text)} is not a region, expected one such as us-east-1")
    return text


def check_encryption(value: object) -> str:
    text = check_text(value)
    if text in ("none", "sse-s3") or re.fullmatch(r"sse-kms:[\x21-\x7e]+", text):
        return text
    raise ValueError(f"{shown(text)} is not known, expected none, sse-s3 or sse-kms:<key id>")


def check_path_style(value: object) -> PathStyle:
    if isinstance(value, str) and value == "auto":
        return "auto"
    try:
        return check_flag(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is not known, expected auto, true or false") from None
