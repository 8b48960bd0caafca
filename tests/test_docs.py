"""README.md and docs/: links, commands, files and decisions that they name are there, and prose keeps to its limits."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if not path.stem.startswith("_"))
README_LINES, COLUMNS, PARAGRAPH_LINES = 160, 120, 5
# Of docker, podman, buildah and mpiexec
FOREIGN_FLAGS = {"--allow-run-as-root", "--gpus", "--shm-size", "--userns", "--read-only", "--tmpfs", "--isolation"}
SOURCES = {".py", ".sh", ".cpp", ".hpp", ".cu", ".h", ".patch", ""}
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


class ParsedError(Exception):
    """The words were understood; nothing is to be done with them."""


def test_all_pages_are_there():
    names = {path.name for path in PAGES}
    pages = ["design", "training", "data", "evaluation", "pytorch", "docker", "speed", "fidelity", "cnn_rnn", "msrn"]
    pages += ["claims", "cluster"]
    assert names == {"README.md", *(f"{name}.md" for name in pages)}


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES


def split_code(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text without fenced blocks, and these: (language, content)."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), blocks


def spans(prose: str) -> list[str]:
    """Inline code, also where a line ends in it."""
    return [" ".join(span.split()) for part in prose.split("\n\n") for span in re.findall(r"`([^`]+)`", part)]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    found: dict[str, int] = {}
    made = set()
    for heading in re.findall(r"^#+ (.+)$", split_code(text)[0], flags=re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return made


def test_anchors_are_githubs():
    text = "# One's `x.py`, two\n## A-b\n## A-b\n```\n# comment\n```\n"
    assert anchors(text) == {"ones-xpy-two", "a-b", "a-b-1"}


@by_name
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", split_code(text)[0])
    assert links
    for link in links:
        if re.match(r"https?:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for page in PAGES[1:]:
        assert f"](docs/{page.name}" in text


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(tool, its words) of every command that a page shows."""
    prose, blocks = split_code(text)
    lines = [line for language, block in blocks if language != "python" for line in block.split("\n")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).split("\n")
    found = []
    for line in [*joined, *spans(prose)]:
        for part in re.split(r"\s#\s", line)[0].split("&&"):
            if match := re.search(r"(?:^|\s)tools/(\w+)\.py\b(.*)", part):
                found.append((match[1], shlex.split(match[2], comments=True)))
    return found


def test_commands_are_found():
    text = "`tools/a.py`\n```\ndocker/local tools/b.py x --y 1  # z\ntools/c.py && tools/d.py --e \\\n  f\n```\n"
    assert commands(text) == [("b", ["x", "--y", "1"]), ("c", []), ("d", ["--e", "f"]), ("a", [])]


@by_name
def test_commands_are_understood(page, monkeypatch, capsys):
    """Each tool's own parser takes the words: flags, choices and positional ones. Nothing is run."""
    understand = argparse.ArgumentParser.parse_args

    def only_parse(parser, words=None, namespace=None):
        understand(parser, words, namespace)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    for tool, words in commands(page.read_text("utf-8")):
        assert tool in TOOLS
        if not words:
            continue
        try:
            importlib.import_module(f"tools.{tool}").main(words)
        except ParsedError:
            continue
        except SystemExit as end:
            assert end.code == 0, f"tools/{tool}.py {' '.join(words)}: {capsys.readouterr().err}"


def help_of(tool: str, *words: str) -> str:
    """What --help prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        importlib.import_module(f"tools.{tool}").main([*words, "--help"])
    return out.getvalue()


@cache
def known_flags() -> set[str]:
    """Flags of all tools, of their subcommands, and of the scripts in docker/."""
    texts = [(ROOT / "docker" / name).read_text("utf-8") for name in ("build", "local")]
    for tool in TOOLS:
        texts.append(help_of(tool))
        if found := re.search(r"positional arguments:\s+\{([\w,]+)\}", texts[-1]):
            texts += [help_of(tool, word) for word in found[1].split(",")]
    return set(re.findall(r"--[a-z][a-z0-9-]*", "\n".join(texts)))


@by_name
def test_flags_in_the_prose_are_known(page, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    for span in spans(split_code(page.read_text("utf-8"))[0]):
        if span.startswith("--"):
            for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", span):
                assert flag in known_flags() | FOREIGN_FLAGS, f"{page.name}: {span}"


@by_name
def test_files_that_are_named_are_there(page):
    for span in spans(split_code(page.read_text("utf-8"))[0]):
        for name in re.findall(r"(?<![\w/.<])((?:pysrn|tools|docker|tests)/[\w/.-]+\.\w+)", span):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


@by_name
def test_imports_that_are_shown_work(page):
    for language, block in split_code(page.read_text("utf-8"))[1]:
        if language == "python":
            for module, names in re.findall(r"^from (\S+) import (.+)$", block, flags=re.M):
                found = importlib.import_module(module)
                assert all(hasattr(found, name.strip()) for name in names.split(","))


def test_cited_decisions_are_in_the_design():
    headings = set(re.findall(r"^### (D\d+) \S", (ROOT / "docs/design.md").read_text("utf-8"), flags=re.M))
    assert headings == {f"D{number}" for number in range(1, 22)}
    cited = {}
    for folder in ("pysrn", "docker", "tools", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in SOURCES and path != Path(__file__).resolve():
                text = path.read_text("utf-8", errors="replace")
                cited |= dict.fromkeys(re.findall(r"(?<![\w-])D\d{1,2}(?!\w)", text), path)
    assert cited
    for decision, path in cited.items():
        assert decision in headings, f"{path} cites {decision}"


def blocks_of(prose: str) -> list[list[str]]:
    """Paragraphs and list items; no tables, no headings."""
    found: list[list[str]] = [[]]
    for line in prose.splitlines():
        begins = re.match(r"\s*(-|\d+\.) ", line)
        if not line.strip() or begins or line.startswith(("|", "#", "<!--")):
            found.append([])
        if line.strip() and not line.startswith(("|", "#", "<!--")):
            found[-1].append(line)
    return found


@by_name
def test_prose_is_short(page):
    text = page.read_text("utf-8")
    for line in text.splitlines():
        assert line.startswith("|") or len(line) <= COLUMNS, f"{len(line)} columns: {line}"
    prose = split_code(text)[0]
    for block in blocks_of(prose):
        assert len(block) <= PARAGRAPH_LINES, "\n".join(block)
    for word in ("that of", "the former", "the latter", "\N{EM DASH}", "shared/"):
        assert not re.search(rf"\b{word}\b" if word[0].isalpha() else word, prose), word


def test_licence():
    text = (ROOT / "LICENSE").read_text("utf-8")
    for words in ("BSD 2-Clause License", "Regents of the University of California", "oneDNN", "Apache License"):
        assert words in text
    assert 'license="BSD-2-Clause"' in (ROOT / "setup.py").read_text("utf-8")


def test_citation():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    keys = re.findall(r"^([a-z-]+):", text, flags=re.M)
    assert len(keys) == len(set(keys))
    assert {"cff-version", "message", "title", "type", "authors", "license", "references"} <= set(keys)
    for line in text.splitlines():
        assert re.fullmatch(r' *(- )?([a-z-]+:( ("[^"]*"|[^"\s:#][^":#]*))?|[\w -]+)', line), line
        assert (len(line) - len(line.lstrip())) % 2 == 0, line
    for paper in ("1702.05891", "1604.04573", "2106.11596"):
        assert paper in text
    assert text.index("1702.05891") < text.index("1604.04573")
    version = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text("utf-8"))[1]
    assert f"\nversion: {version}\n" in text
