"""The environment that a child process gets: nothing that holds a secret."""

from __future__ import annotations

from collections.abc import Mapping

KEPT = frozenset(
    {"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME"}
    | {"XDG_RUNTIME_DIR", "DISPLAY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)

PREFIXES = ("LC_", "LIBVA_", "CUDA_", "NVIDIA_", "MALLOC_")


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `env` in `KEPT` or with one of `PREFIXES`: paths, locale, GPU and allocator."""
    return {key: value for key, value in env.items() if key in KEPT or key.startswith(PREFIXES)}
