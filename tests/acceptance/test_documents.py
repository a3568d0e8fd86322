"""The documents are right: links resolve, commands and paths exist, the settings in examples load."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import yaml

from async_motion.settings import Unresolved, load
from tests.support.readme import ROOT, blocks

_SKIPPED = ("node_modules", "data", "results", "build", "dist")


def _documents() -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name == ".github" or (name[0] != "." and name not in _SKIPPED)
        ]
        found += [Path(folder) / name for name in files if name.endswith(".md")]
    return sorted(found)


DOCUMENTS = _documents()
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"(`+)(.+?)\1")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?<![\w/.])(?:async_motion|config|docker|tests)/[\w./-]+\.(?:py|md|ya?ml|sh)")

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def _slug(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    kept = "".join(
        letter for letter in heading.lower() if letter in " -_" or unicodedata.category(letter)[0] in "LN"
    )
    return kept.strip().replace(" ", "-")


@cache
def _anchors(document: Path) -> frozenset[str]:
    text = _FENCED.sub("", document.read_text(encoding="utf-8"))
    return frozenset(_slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE))


def _code(document: Path) -> list[str]:
    """Return the code in a document: spans in the text, lines of shell and indented blocks."""
    text = document.read_text(encoding="utf-8")
    spans = [span for _, span in _CODE.findall(_FENCED.sub("", text))]
    lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
    return spans + lines + [line.strip() for line in text.splitlines() if line.startswith("    python")]


def _commands(starts: str) -> list[str]:
    """Return the commands of all documents that begin with `starts`, without interpreter and path."""
    found = set()
    for document in DOCUMENTS:
        for line in _code(document):
            command = re.sub(r"^(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?(?:python -m )?", "", line)
            if command.startswith(starts) and not _PATH.fullmatch(command):
                found.add(command)
    return sorted(found)


def _output(*words: str) -> str:
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{shlex.join(words)}: {run.stdout}{run.stderr}"
    return run.stdout


@cache
def _help(*words: str) -> str:
    return _output("-m", *words, "--help")


def _options(command: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", command)


def test_there_are_documents() -> None:
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert {"README.md", "config/README.md", "tests/README.md", "async_motion/README.md"} <= names


@each
def test_links_lead_to_what_exists(document: Path) -> None:
    text = _FENCED.sub("", document.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


@each
def test_paths_in_code_exist(document: Path) -> None:
    for span in _code(document):
        for path in _PATH.findall(span):
            assert (ROOT / path).exists(), span


@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", _commands("pytest "))
def test_a_pytest_command_finds_tests(command: str) -> None:
    words = shlex.split(command.partition(" #")[0])[1:]
    for word in words:
        if word.startswith("tests"):
            assert (ROOT / word).exists(), command
    if "-k" in words:
        listed = _output("-m", "pytest", *words, "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider")
        assert "::" in listed, command


@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", _commands("tests."))
def test_a_tool_of_the_tests_knows_its_options(command: str) -> None:
    module, *_ = command.split()
    options = _options(command)
    if options:
        assert [option for option in options if option not in _help(module)] == []
    else:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), command


@pytest.mark.parametrize("command", _commands("async-motion "))
def test_a_command_of_ours_knows_its_options(command: str) -> None:
    shown = _help("async_motion")
    words = re.findall(r"(?<!-)\b[a-z]+\b", command.removeprefix("async-motion "))
    if words:
        assert re.search(rf"^ +{words[0]}\b", shown, re.MULTILINE), command
        shown += _help("async_motion", words[0])
    for word in words[1:]:
        if re.search(rf"^ {{4}}{word} ", shown, re.MULTILINE):
            shown += _help("async_motion", words[0], word)
    assert [option for option in _options(command) if option not in shown] == []


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"^\| `async-motion (\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    known = re.findall(r"^ {4}(\w+)\b", _help("async_motion"), re.MULTILINE)
    assert sorted(listed) == sorted(known)


@each
def test_settings_in_examples_load(document: Path, tmp_path: Path) -> None:
    known = {"minio", "mqtt", "cameras", "location", "spool", "web", "instance"}
    for example in blocks(document, "yaml"):
        values = yaml.safe_load(example)
        if not isinstance(values, dict) or not values.keys() <= known:
            continue
        path = tmp_path / "variables.yaml"
        path.write_text(example, encoding="utf-8")
        load(path, env={}, references=Unresolved())
